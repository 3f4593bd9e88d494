package plan

import (
	"maps"
	"slices"
)

// Check returns what Compile finds when it plans for all nodes, with the nodes that have selected Pods, in a fraction of the time:
// it makes no plan. The snapshot's Node does not matter. It is pure.
func Check(s Snapshot) Findings {
	s.Node = ""
	x := newIndex(&s)
	policies := newPolicies(x, s.L7Policies)
	_, drafts := draftGroups(x, policies)
	sets, shadows := newRuleSets(), newShadows()
	for _, d := range drafts {
		if d.mayShadow() {
			newClassifier(x, d, newPortJudge(d, sets, shadows)).classify()
			shadows.endGroup()
		}
	}
	f := newFindings(x, policies, shadows)
	for i, p := range policies {
		f.Policies[i].Nodes = p.nodes(x)
	}
	return f
}

// mayShadow says whether the group has both rules with l7 and rules without whose ports overlap. Else no rule shadows another.
func (d *groupDraft) mayShadow() bool {
	var allowed, inspected []portRange
	for i := range d.members {
		for k := range d.members[i].allows {
			a := &d.members[i].allows[k]
			if a.rule.inspects {
				inspected = append(inspected, a.ports...)
			} else {
				allowed = append(allowed, a.ports...)
			}
		}
	}
	return overlap(newPortSet(allowed), newPortSet(inspected))
}

func overlap(a, b portSet) bool {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].hi <= b[0].lo:
			a = a[1:]
		case b[0].hi <= a[0].lo:
			b = b[1:]
		default:
			return true
		}
	}
	return false
}

// nodes names the nodes, sorted, that have Pods which the policy selects.
func (p *policy) nodes(x *index) []string {
	names := map[string]bool{}
	for _, id := range p.selected.pods {
		if node := x.pods[id].object.Spec.NodeName; node != "" {
			names[node] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
