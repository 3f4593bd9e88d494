// Package reach answers who may send what to a Pod, from objects alone: it asks the plan that nodes enforce, and the reference evaluator of
// allow-lists, so that it says what flows and engines do. It knows L7Policies; what NetworkPolicies deny, it does not see.
package reach
