package openflow

import (
	"fmt"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// portVerdict gives the verdict for class, protocol and port. Ports that no policy governs pass as they are.
func (r *renderer) portVerdict() {
	r.untranslated()
	for i := range r.groups {
		g := &r.groups[i]
		for class, verdicts := range g.Classes {
			for _, v := range verdicts {
				r.verdict(g, class, v)
			}
			r.fragmentVerdict(g, class, verdicts)
		}
	}
	r.b.add(tablePortVerdict, priorityMiss, cookie(featurePipeline, 0), "Ports that are not governed.",
		newMatch(), r.judged())
}

func (r *renderer) verdict(g *group, class int, v plan.PortVerdict) {
	ports := portRange{v.Port, v.EndPort}
	number := protoNumber(v.Protocol)
	if number == 0 || ports.last < ports.first {
		r.b.fail("group %s has a verdict for %s %s, which are none: the plan is wrong", g.Key, v.Protocol, ports)
		return
	}
	c, does, what := r.act(g, v)
	for _, mask := range portMasks(ports.first, ports.last) {
		r.b.add(tablePortVerdict, priorityVerdict, c,
			fmt.Sprintf("%s for %s %s and class %d of group %s.", what, v.Protocol, ports, class, g.Key),
			newMatch(is(fieldGroup, g.number), is(fieldClass, uint32(class)), is(fieldProto, number), within(fieldPeerPort, mask)),
			does)
	}
}

// fragmentVerdict judges a connection whose first datagram comes in fragments. Unless it is to a Service, its port is not known,
// so that it can pass only where all ports of the peer have one verdict.
func (r *renderer) fragmentVerdict(g *group, class int, verdicts []plan.PortVerdict) {
	udp := slices.DeleteFunc(slices.Clone(verdicts), func(v plan.PortVerdict) bool { return v.Protocol != plan.UDP })
	if len(udp) == 0 {
		return // the ports are not governed
	}
	c, does, what := cookie(featureGroup, g.number), drop, "Drop"
	if len(udp) == 1 && udp[0].Port <= 1 && udp[0].EndPort == 65535 {
		c, does, what = r.act(g, udp[0])
	}
	for _, f := range ipFamilies {
		r.b.add(tablePortVerdict, priorityFragmentUDP, c,
			fmt.Sprintf("%s for fragments of UDP and class %d of group %s.", what, class, g.Key),
			newMatch(is(fieldGroup, g.number), is(fieldClass, uint32(class)), is(fieldEndpointChosen, 0), proto(f), fragmentUDP), does)
	}
}

// act gives a verdict's cookie, actions and name.
func (r *renderer) act(g *group, v plan.PortVerdict) (c uint64, does, what string) {
	switch v.Verdict {
	case plan.Allow:
		return cookie(featureGroup, g.number), r.judged(), "Allow"
	case plan.Inspect:
		id, known := r.numbers.RuleSets[v.RuleSet]
		if !known || !idFits(g.Direction, id) {
			r.b.fail("rule set %s of group %s has no InspectionID for %s (it has %d): hand out numbers for the plan before rendering",
				v.RuleSet, g.Key, g.Direction, id)
		}
		marks, how := uint32(markInspect), "Inspect"
		if v.FailOpen {
			marks, how = marks|markFailOpen, "Inspect (pass without engine)"
		}
		return cookie(featureGroup, g.number), actions(
			load(fieldVerdictMarks, marks>>fieldVerdictMarks.lo),
			load(fieldInspectionID, uint32(id)),
			r.judged()), how
	case plan.Deny:
		number := r.denials.number(g.Direction, &v)
		return cookie(featureDenial, number), r.deny(number), "Deny (" + strings.Join(v.Policies, ", ") + ")"
	default:
		r.b.fail("group %s has the verdict %q, which is none of Allow, Inspect, Deny: the plan is wrong", g.Key, v.Verdict)
		return cookie(featureGroup, g.number), drop, "Drop"
	}
}

func idFits(d plan.Direction, id uint16) bool {
	if d == plan.Ingress {
		return id >= ledger.IngressFirst && id <= ledger.IngressLast
	}
	return id >= ledger.EgressFirst && id <= ledger.EgressLast
}
