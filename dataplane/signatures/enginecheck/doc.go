// Package enginecheck asks the real Suricata what it says of the rules that package signatures makes of a RuleSet, before any engine
// that inspects runs them: by the settings of those engines, in a process of its own that inspects nothing.
package enginecheck
