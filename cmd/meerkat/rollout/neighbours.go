package rollout

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Neighbours names the other policies in mode Audit whose rules allow something today that would be denied when a policy alone is enforced: on a
// port that one policy enforces, the rules of those that audit do not count. No event tells of that.
func Neighbours(s plan.Snapshot, name types.NamespacedName) []string {
	s.Node = ""
	before, _ := plan.Compile(s)
	s.L7Policies = slices.Clone(s.L7Policies)
	for i := range s.L7Policies {
		if p := &s.L7Policies[i]; p.Namespace == name.Namespace && p.Name == name.Name {
			p.Spec.Mode = v1alpha1.ModeEnforce
		}
	}
	after, _ := plan.Compile(s)
	found := map[string]bool{}
	for i := range before.Edges {
		e := &before.Edges[i]
		k := slices.IndexFunc(after.Edges, func(o plan.Edge) bool { return o.Pod == e.Pod })
		if k < 0 {
			continue
		}
		for _, groups := range [][2]string{{e.Ingress, after.Edges[k].Ingress}, {e.Egress, after.Edges[k].Egress}} {
			for _, other := range lost(before, after, groups[0], groups[1], name.String()) {
				found[other] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// lost names the policies whose rules a group loses.
func lost(before, after *plan.NodePlan, was, is, name string) (others []string) {
	g := before.Group(was)
	if g == nil {
		return nil
	}
	for _, peer := range g.Peers {
		for _, v := range g.Classes[peer.Class] {
			at := slices.Index(v.Policies, name)
			now, governed := after.Judge(is, peer.Prefix.Addr(), v.Protocol, v.Port)
			if at < 0 || len(v.Policies) < 2 || !governed {
				continue
			}
			rest := slices.Delete(slices.Clone(v.Policies), at, at+1)
			if v.Verdict == plan.Allow && now.Verdict != plan.Allow {
				others = append(others, rest...) // a rule without l7 is of one of them
			}
			if set := before.RuleSet(v.RuleSet); set != nil && now.Verdict != plan.Allow {
				for i := range set.Entries {
					if slices.Contains(rest, set.Entries[i].Policy) {
						others = append(others, set.Entries[i].Policy)
					}
				}
			}
		}
	}
	return others
}
