package plan

import (
	"maps"
	"net/netip"
	"testing"
)

// TestSuccessors: a rule set takes another's place only where it holds for the very same peers and ports.
func TestSuccessors(t *testing.T) {
	prefix := netip.MustParsePrefix
	web := func(peer string, port uint16, ruleSets ...string) *NodePlan {
		var verdicts []PortVerdict
		for i, r := range ruleSets {
			verdicts = append(verdicts, PortVerdict{Protocol: TCP, Port: port + uint16(i), EndPort: port + uint16(i), Verdict: Inspect, RuleSet: r})
		}
		return &NodePlan{Groups: []Group{{
			Key: "web", Peers: []Peer{{prefix("0.0.0.0/0"), 0}, {prefix(peer), 1}}, Classes: [][]PortVerdict{nil, verdicts},
		}}}
	}
	const client, other = "10.0.0.1/32", "10.0.0.2/32"
	for name, c := range map[string]struct {
		before, now *NodePlan
		want        map[string]string
	}{
		"nothing changes":               {web(client, 80, "a"), web(client, 80, "a"), nil},
		"what is allowed changes":       {web(client, 80, "a"), web(client, 80, "b"), map[string]string{"b": "a"}},
		"the peers change, too":         {web(client, 80, "a"), web(other, 80, "b"), nil},
		"the port changes, too":         {web(client, 80, "a"), web(client, 81, "b"), nil},
		"two change":                    {web(client, 80, "a", "b"), web(client, 80, "c", "d"), map[string]string{"c": "a", "d": "b"}},
		"two change places":             {web(client, 80, "a", "b"), web(client, 80, "b", "a"), nil},
		"one becomes another's":         {web(client, 80, "a", "b"), web(client, 80, "b", "b"), nil},
		"one comes, one stays":          {web(client, 80, "a"), web(client, 80, "a", "b"), nil},
		"the first plan has no formers": {&NodePlan{}, web(client, 80, "a"), nil},
	} {
		if got := Successors(c.before, c.now); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, not %v", name, got, c.want)
		}
	}
}
