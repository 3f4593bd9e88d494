// Package plan turns the state of the cluster (Snapshot) into what one node must enforce (NodePlan) and what there is to tell
// the writers of policies (Findings). It is pure, and knows neither Open vSwitch nor Suricata.
//
// Compile goes these steps, each in a file or two of its own:
//
//  1. index.go, selection.go, service.go: Pods, addresses, namespaces and Services are sorted and made quick to ask.
//     addressslices.go, selectorkey.go: where AddressSlices tell of the Pods that selectors of peers select.
//  2. policy.go, portspec.go, peers.go, egress.go, convert.go: each rule becomes clauses: these ports, for these addresses and
//     blocks of addresses; and its l7 becomes entries of package l7. What cannot be used is left out and noted (check.go).
//  3. group.go: the node's Pods that the same policies govern in the same way become one group.
//  4. classes.go: each group's peers are sorted into classes by which clauses hold for them, as a table for longest-prefix
//     lookup; verdict.go: the verdicts of each class, by port; ruleset.go: the rule sets that these speak of.
//  5. shadow.go, conditions.go: what came out becomes conditions.
//
// NodePlan.Judge asks a plan about one connection; it is the reference for what flows do.
//
// # What is decided here
//
// A Pod is governed by the policies of its namespace that select it, in the directions they speak of. With scope NamedPorts a
// policy governs the ports that its rules name, for all peers; with AllPorts every port of TCP, UDP and SCTP. Where any
// policy in mode Enforce governs a port, those in mode Audit do not count there. Then a rule without l7 that matches allows;
// otherwise the rules with l7 that match are the alternatives of a rule set; otherwise the connection is denied, or in Audit
// inspected by an empty rule set that reports it.
//
// Ports are the Pods' own, since connections are judged behind Services. A name at ingress is looked up on the selected Pod;
// at egress on each Pod among the peers, and its numbers there are governed towards every destination. Service peers stand for
// their endpoints, ready or not, so that a connection to one that drains is not cut; while a Service has no endpoints, its target
// port is still governed if it is a number. Where a rule has both Services and ports, both must hold.
//
// Pods that use their node's network are neither governed nor peers, as with most NetworkPolicy implementations: their
// packets are their node's. They can be allowed by ipBlock, and as the endpoints of a Service.
//
// The engine does not look into SCTP. There, a rule with l7 allows nothing, and Audit lets pass without a report.
//
// A rule set is named after the rules that contribute to it and has these rules' policies; a denial at L4 is attributed to all
// policies that govern the port. Denied connections are reset when any of these asks for it, and pass while the engine does
// not inspect only when every policy that governs the port says so.
//
// # What is left to kube-proxy
//
// Only cluster addresses of Services are resolved at the client's edge. What a governed Pod sends to a node port, to an external
// or load balancer address, is judged as it is, by that address and port, although kube-proxy may lead it to a Pod that a rule
// names. Only scope AllPorts, which denies what no rule allows, closes this way around a rule. Topology hints and
// trafficDistribution do not count in the choice of endpoints.
package plan
