// Package l7policy writes the status of L7Policies: what is wrong with them, as seen over the whole cluster, and what the nodes
// report to have made of them.
//
// Events of objects only poke; watch.go says which matter. A pass (runner.go) then judges all policies at once with plan.Check when
// anything has changed that it looks at, and works out the status of each policy that is affected: aggregate.go is a pure function
// from what is known of a policy to its status. Passes are a second apart or more, and take a tenth of the time at most.
//
// # What the conditions say
//
// Accepted, ResolvedRefs, Shadowed and ClientsHidden are package plan's. Programmed is true when every node with selected Pods reports
// that it does what the present generation says, or when no Pod is selected; nodes that are down themselves are not waited for. A node that
// selected Pods have only just come to is given ten seconds before it counts. Degraded is true when a node reports trouble, or does
// not report. Ready is true when nothing is pending and every such node enforces the policy at this moment; references that cannot
// be resolved do not make it false, since what is enforced then is what the policy says. Stalled is there, and true, only when
// a change of the policy is needed.
//
// # Counts
//
// A node counts from the start of its agent's books, and begins at zero with new ones. What it reports is therefore taken as an
// increase: over the count before or, when it is less, from zero. The sum of the increases is added to what the status says, so
// that it never falls when an agent begins anew or a node goes. A manager that takes over continues with what the status says, or
// with the sum of the nodes' counts if that is more; denials between the last writing and the taking over, less than a minute's,
// may not be counted.
package l7policy
