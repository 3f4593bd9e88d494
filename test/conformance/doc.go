// Package conformance compares what Meerkat does to connections with what NetworkPolicies say, over the cases of cyclonus, which is
// also network-policy-api's policy assistant: its generator makes the cases, its simulator says which connections are allowed, and
// the lab's real Open vSwitch and Suricata judge real ones.
package conformance
