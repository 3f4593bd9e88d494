package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Successors tells which rule sets of a plan take the place of which of the plan before: those that hold for just the same peers
// and ports of the same groups, and differ in what they allow. Connections need not notice such a change, if the rule set keeps its
// number. The result has the former key by the present one. It is pure.
func Successors(before, now *NodePlan) map[string]string {
	was, is := places(before), places(now)
	former := map[string]string{}
	for key, place := range was {
		if _, stays := is[key]; !stays {
			former[place] = key
		}
	}
	successors := map[string]string{}
	for key, place := range is {
		if old, ok := former[place]; ok {
			if _, there := was[key]; !there {
				successors[key] = old
			}
		}
	}
	return successors
}

// places says of each rule set, by key, where it holds: no two rule sets hold in one place.
func places(p *NodePlan) map[string]string {
	lists := map[string][]string{}
	for i := range p.Groups {
		g := &p.Groups[i]
		for class, verdicts := range g.Classes {
			for _, v := range verdicts {
				if v.Verdict == Inspect {
					lists[v.RuleSet] = append(lists[v.RuleSet], fmt.Sprintf("%s %s %d-%d %s", g.Key, v.Protocol, v.Port, v.EndPort, peersOf(g, class)))
				}
			}
		}
	}
	all := make(map[string]string, len(lists))
	for key, list := range lists {
		slices.Sort(list)
		all[key] = strings.Join(list, "\n")
	}
	return all
}

func peersOf(g *Group, class int) string {
	var s strings.Builder
	for _, p := range g.Peers { // sorted; those of other classes as well: they are the exceptions
		fmt.Fprintf(&s, "%s %t,", p.Prefix, p.Class == class)
	}
	return s.String()
}
