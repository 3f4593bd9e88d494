// Package trafficinspection writes the status of TrafficInspections: what is wrong with them, and what the nodes report to have made of
// them. It does for inspections what package l7policy does for policies.
//
// # What the conditions say
//
// Accepted is false when the spec cannot be used. ResolvedRefs is false while a rule set that it names does not exist. Programmed is true
// when every node with selected Pods reports that it does what the present generation says, or when no Pod is selected; nodes that are
// down themselves are not waited for. Degraded is true when a node reports trouble, or does not report. Ready is true when every such node
// looks at the traffic at this moment, with all rule sets. Stalled is there, and true, only when a person must change the inspection.
//
// # Counts
//
// As with policies, what a node reports is taken as an increase, so that the sum never falls when an agent begins to count anew. A
// manager that takes over continues with what the status says.
package trafficinspection
