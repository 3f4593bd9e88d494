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
	s.MaxProfiles = len(s.TrafficInspections) // each node has its own bound
	inspections := newInspections(x, &s)
	_, drafts := draftGroups(x, policies, inspections)
	sets, shadows := newRuleSets(), newShadows()
	for _, d := range drafts {
		inspections.tapsOf(d.direction, d.looks)
		if d.mayShadow() {
			newClassifier(x, d, newPortJudge(d, sets, shadows)).classify()
			shadows.endGroup()
		}
	}
	f := newFindings(x, policies, shadows)
	for i, p := range policies {
		f.Policies[i].Nodes = nodesOf(x, p.selected)
	}
	f.Inspections = inspections.findings(x)
	for _, n := range inspections.all {
		f.InspectionFor(n.name).Nodes = nodesOf(x, n.selected)
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

// nodesOf names the nodes, sorted, that have selected Pods.
func nodesOf(x *index, s *podSelection) []string {
	names := map[string]bool{}
	for _, id := range s.pods {
		if node := x.pods[id].object.Spec.NodeName; node != "" {
			names[node] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
