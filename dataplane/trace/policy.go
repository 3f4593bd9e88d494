package trace

// Policy is what became of a policy on one node.
type Policy struct {
	Node string `json:"node"`
	// Pods are those that it governs there, with the directions: "shop/web (ingress)".
	Pods []string `json:"pods"`
	// RuleSets are what the engine applies that the policy has a part in.
	RuleSets []CompiledRules `json:"ruleSets,omitempty"`
	// Flows are those that classify and judge connections of its Pods, with the packets that have matched since the switch has them.
	Flows []CountedFlow `json:"flows,omitempty"`
	// Refused says why its rules are not in force as they are written.
	Refused []string `json:"refused,omitempty"`
}

// CompiledRules are the Suricata rules of one InspectionID.
type CompiledRules struct {
	Inspection
	Rules []string `json:"rules"`
}

// CountedFlow is a flow.
type CountedFlow struct {
	Table    string `json:"table"`
	Priority int    `json:"priority"`
	Match    string `json:"match"`
	Actions  string `json:"actions"`
	What     string `json:"what"`
	Packets  uint64 `json:"packets"`
}
