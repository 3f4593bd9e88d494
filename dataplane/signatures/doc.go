// Package signatures turns the sources of a RuleSet into one file of Suricata rules: it reads them, selects, changes and merges as
// suricata-update does, refuses what a rule must not do, and remembers where each line is from. It knows neither Kubernetes nor the
// engine, reads no file and has no clock: the same input gives the same bytes. What the engine says of the result, package
// enginecheck asks it.
package signatures
