package openflow

import (
	"fmt"
	"slices"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// newConnection guards the judging. After a conntrack flush, or when its Pod was interposed a moment ago, an open connection's
// first packet may be a reply. It must not open the connection the wrong way round, where the other direction's policies, or
// none, would judge it: TCP segments without SYN that come *from* a governed port are dropped, and the request's next segment
// opens the connection the right way.
func (r *renderer) newConnection() {
	for i := range r.groups {
		r.backwards(&r.groups[i])
	}
	r.ownServices()
	c := cookie(featurePipeline, 0)
	r.b.add(tableNewConnection, priorityUngoverned, c, "Connections in a direction that is not governed.",
		newMatch(is(fieldGroup, 0)), gotoTable(tableCommit))
	for _, f := range ipFamilies {
		r.b.add(tableNewConnection, priorityFragmentUDP, c, "Fragments of datagrams that a governed Pod sends.",
			newMatch(proto(f), ctMarkClear(markNATed), fragmentUDP, is(fieldSource, sourcePod)), gotoTable(tableServiceLB))
		r.b.add(tableNewConnection, priorityFragmentUDP-1, c, "Fragments of datagrams to a governed Pod.",
			newMatch(proto(f), ctMarkClear(markNATed), fragmentUDP), gotoTable(tablePeerPort))
	}
	r.b.add(tableNewConnection, priorityFragment, c, "Later fragments of a connection that is not judged yet: they have no ports.",
		newMatch(proto("ip"), laterFragment), drop)
	r.b.add(tableNewConnection, priorityFragment, c, "The same over IPv6, which may be a ping's. Without their first one they are of no use.",
		newMatch(proto("ipv6"), laterFragment), gotoTable(tableDeliver))
	r.b.add(tableNewConnection, priorityStep, c, "Connections that a governed Pod opens.",
		newMatch(is(fieldSource, sourcePod)), gotoTable(tableServiceLB))
	r.b.add(tableNewConnection, priorityMiss, c, "Connections to a governed Pod.", newMatch(), gotoTable(tablePeerPort))
}

func (r *renderer) backwards(g *group) {
	for _, ports := range governedPorts(g.Group, plan.TCP) {
		for _, mask := range portMasks(ports.first, ports.last) {
			for _, name := range [...]string{"tcp", "tcp6"} {
				r.b.add(tableNewConnection, priorityBackwards, cookie(featureBackwards, g.number),
					fmt.Sprintf("Replies from %s, which group %s governs, without their connection.", ports, g.Key),
					newMatch(ctState("+new+trk"), proto(name), is(fieldReverseGroup, g.number), tpSrc(mask), notSYN), drop)
			}
		}
	}
}

// portRange is the ports from first to last, both included.
type portRange struct{ first, last uint16 }

func (p portRange) String() string {
	if p.first == p.last {
		return fmt.Sprintf("port %d", p.first)
	}
	return fmt.Sprintf("ports %d-%d", p.first, p.last)
}

// governedPorts gives the union of the ports that the group governs for any class, as few ranges, sorted.
func governedPorts(g *plan.Group, protocol plan.Protocol) []portRange {
	var all []portRange
	for _, class := range g.Classes {
		for _, v := range class {
			if v.Protocol == protocol {
				all = append(all, portRange{v.Port, v.EndPort})
			}
		}
	}
	slices.SortFunc(all, func(a, b portRange) int { return int(a.first) - int(b.first) })
	var union []portRange
	for _, p := range all {
		if n := len(union); n > 0 && int(p.first) <= int(union[n-1].last)+1 {
			union[n-1].last = max(union[n-1].last, p.last)
		} else {
			union = append(union, p)
		}
	}
	return union
}
