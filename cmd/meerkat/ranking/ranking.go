// Package ranking puts policies in the order of what they deny, are asked, and cost. It is pure.
package ranking

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/tracing"
)

// Policy is what is known of one.
type Policy struct {
	Policy  string        `json:"policy"`
	Mode    v1alpha1.Mode `json:"mode"`
	Rules   int           `json:"rules"`
	Nodes   int           `json:"nodes"`
	Denied  int64         `json:"denied"`
	Audited int64         `json:"audited"`
	// Last is when it last denied or audited something; zero for never.
	Last time.Time `json:"last,omitzero"`
	// Cost is nil when nobody has asked the nodes.
	Cost *Cost `json:"cost,omitempty"`
	// Unknown says why there is no Cost.
	Unknown string `json:"unknown,omitempty"`
	// ByRule are its rules in their order; only with a Cost.
	ByRule []Rule `json:"byRule,omitempty"`

	edges []string // Pods and directions that it governs
}

// Cost is what a policy makes nodes do. Policies that select the same Pods share flows, and then each has all of it.
type Cost struct {
	// Connections were judged by the Pods' policies, and Packets are those of clients that the flows have classified, since nodes have the flows.
	Connections uint64 `json:"connections"`
	Packets     uint64 `json:"packets"`
	// EngineRules are the rules of Suricata that it has a part in, over all nodes.
	EngineRules int `json:"engineRules"`
	// With are the other policies that share the flows.
	With []string `json:"sharedWith,omitempty"`
}

// Rule is one rule of a policy.
type Rule struct {
	Rule string `json:"rule"`
	// Connections are those that it may decide: their peer and port are the rule's. Whether it has, nobody counts.
	Connections uint64 `json:"connections"`
	// Counted is false for rules without l7, whose connections are not told apart from other rules'.
	Counted bool `json:"counted"`
}

// Of gives a policy by its status.
func Of(p *v1alpha1.L7Policy) Policy {
	r := Policy{
		Policy: p.Namespace + "/" + p.Name, Mode: p.Spec.Mode, Rules: len(p.Spec.Ingress) + len(p.Spec.Egress),
		Denied: p.Status.Denied, Audited: p.Status.Audited,
	}
	if p.Status.Nodes != nil {
		r.Nodes = int(p.Status.Nodes.Desired)
	}
	if p.Status.LastDenied != nil {
		r.Last = p.Status.LastDenied.Time
	}
	return r
}

// inspectionID is where a flow says which rule set judges a connection.
var inspectionID = regexp.MustCompile(`set_field:(0x[0-9a-f]+)/0xfff->reg7`)

// Measure adds what the nodes tell.
func (r *Policy) Measure(e *tracing.Explanation) {
	r.Cost = &Cost{}
	byRule := map[string]uint64{}
	for _, n := range e.Nodes {
		for _, governed := range n.Pods { // "shop/web (ingress, egress)"
			pod, directions, _ := strings.Cut(strings.TrimSuffix(governed, ")"), " (")
			for d := range strings.SplitSeq(directions, ", ") {
				r.edges = append(r.edges, pod+" "+d)
			}
		}
		rules := map[uint64][]string{} // of a rule set, those of this policy
		for i := range n.RuleSets {
			set := &n.RuleSets[i]
			r.Cost.EngineRules += len(set.Rules)
			for _, entry := range set.Entries {
				if id := uint64(set.ID); entry.Policy == r.Policy && !slices.Contains(rules[id], entry.Rule) {
					rules[id] = append(rules[id], entry.Rule)
				}
			}
		}
		for _, f := range n.Flows {
			switch f.Table {
			case "PortVerdict":
				r.Cost.Connections += f.Packets
				if m := inspectionID.FindStringSubmatch(f.Actions); m != nil {
					id, _ := strconv.ParseUint(m[1], 0, 16)
					for _, rule := range rules[id] {
						byRule[rule] += f.Packets
					}
				}
			case "ConntrackState":
				r.Cost.Packets += f.Packets
			}
		}
	}
	r.ByRule = nil
	for i := range e.Spec.Ingress {
		r.rule(cmp.Or(e.Spec.Ingress[i].Name, fmt.Sprintf("ingress[%d]", i)), len(e.Spec.Ingress[i].L7) > 0, byRule)
	}
	for i := range e.Spec.Egress {
		r.rule(cmp.Or(e.Spec.Egress[i].Name, fmt.Sprintf("egress[%d]", i)), len(e.Spec.Egress[i].L7) > 0, byRule)
	}
}

func (r *Policy) rule(name string, inspects bool, by map[string]uint64) {
	r.ByRule = append(r.ByRule, Rule{Rule: name, Connections: by[name], Counted: inspects})
}

// Share notes which of the policies share flows: they govern a Pod in the same direction.
func Share(all []Policy) {
	by := map[string][]int{}
	for i := range all {
		for _, e := range all[i].edges {
			by[e] = append(by[e], i)
		}
	}
	for _, of := range by {
		for _, i := range of {
			for _, k := range of {
				if with := all[k].Policy; i != k && !slices.Contains(all[i].Cost.With, with) {
					all[i].Cost.With = append(all[i].Cost.With, with)
				}
			}
		}
	}
	for i := range all {
		if all[i].Cost != nil {
			slices.Sort(all[i].Cost.With)
		}
	}
}

// Orders are what policies can be sorted by.
func Orders() []string { return []string{"denied", "hits", "cost", "name"} }

// Sort sorts the largest first: by what was denied or would have been, by connections, or by packets; and by name where that is the same.
func Sort(all []Policy, order string) {
	value := func(p *Policy) uint64 {
		switch {
		case order == "denied":
			return uint64(max(p.Denied+p.Audited, 0)) //nolint:gosec // not negative
		case p.Cost == nil || order == "name":
			return 0
		case order == "cost":
			return p.Cost.Packets
		}
		return p.Cost.Connections
	}
	slices.SortFunc(all, func(a, b Policy) int {
		return cmp.Or(cmp.Compare(value(&b), value(&a)), strings.Compare(a.Policy, b.Policy))
	})
}
