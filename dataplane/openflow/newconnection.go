package openflow

import (
	"fmt"
	"slices"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// newConnection guards the judging. After a conntrack flush, or when its Pod was interposed a moment ago, an open connection's
// first packet may be a reply. It must not open the connection the wrong way round, where the other direction's policies, or
// none, would judge it: TCP segments without SYN that come *from* a governed port are dropped, and the client's next segment
// opens the connection the right way. A client that only listens would send none, so that the agent asks it for one (see stray).
func (r *renderer) newConnection() {
	for i := range r.groups {
		r.backwards(&r.groups[i])
		r.tappedBackwards(&r.groups[i])
	}
	r.ownServices()
	if r.asks {
		r.clientsOfNew()
	}
	r.answers()
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
					newMatch(ctState("+new+trk"), proto(name), is(fieldReverseGroup, g.number), tpSrc(mask), notSYN), r.stray(g.Direction))
			}
		}
	}
}

// answers drops resets that open no connection and end none. When the switch has lost its connections, the agent asks a client whether it
// is there still by every address by which it may have connected to the server (see stray). For all but one of them the client's kernel
// knows no connection, and says so. That would reset the server's end, and take its address and port away from the connection that there
// is, which would get another port, and be reset. (The kernel's conntrack does not take such a reset for a connection anyway.)
func (r *renderer) answers() {
	if r.ports.Agent == 0 || len(r.plan.Services) == 0 {
		return
	}
	for _, name := range [...]string{"tcp", "tcp6"} {
		r.b.add(tableNewConnection, priorityAnswer, cookie(featurePipeline, 0),
			"Resets of governed Pods for what is no connection: answers to what the agent asks.",
			newMatch(ctState("+new+trk"), proto(name), is(fieldSource, sourcePod), answerRST), drop)
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

// Numbers of stray replies, in the last four bytes of their copies' source address: replies that a governed Pod sends, and that it gets.
const (
	StrayIngress = 1
	StrayEgress  = 2
)

// stray drops a reply whose connection conntrack does not know, after a copy of it went to the agent, at a bounded rate. From the copy
// the agent makes what a server sends to see whether its client is there still, a segment of no length that was acknowledged long ago
// (RFC 9293, 3.8.4): the client answers it, and the answer is judged. Of a governed client's connection to a Service nobody knows any more
// by which address it was made, so that the client is asked by all that there are.
func (r *renderer) stray(d plan.Direction) string {
	if r.ports.Agent == 0 {
		return drop
	}
	number := uint32(StrayIngress)
	if d == plan.Egress {
		number = StrayEgress
	}
	return actions(fmt.Sprintf("meter:%d", strayMeter), fmt.Sprintf("set_field:%s->eth_src", denialAddress(number)), output(r.ports.Agent))
}
