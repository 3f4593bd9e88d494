package openflow

import "fmt"

// ICMP errors, which may be about a connection that is translated here. Other ICMP is not tracked.
var (
	// Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792).
	icmp4Errors = [...]int{3, 4, 5, 11, 12}
	// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
	icmp6Errors = [...]int{1, 2, 3, 4}
)

// conntrack looks connections up without NAT. What is neither TCP, UDP, SCTP nor an ICMP error (ARP, neighbour discovery,
// pings, other protocols) is not governed and goes straight on.
//
// Fragments go with their protocol over IPv4: conntrack puts them to their first one, in userspace one by one, in the kernel
// as one packet. Over IPv6 Open vSwitch does not know the protocol of later fragments, so that all first ones must go there, too.
// In userspace every fragment of a packet must take the same way, or conntrack waits for the others: hence the special cases below
// and in NewConnection. One thing does not work there: a UDP connection whose very first datagram comes in fragments, and to an
// address of which not all ports have one verdict. Such datagrams are dropped, until one comes in one piece.
func (r *renderer) conntrack() {
	c := cookie(featurePipeline, 0)
	for _, t := range transports {
		for _, name := range [...]string{t.v4, t.v6} {
			r.b.add(tableConntrack, priorityStep, c, fmt.Sprintf("%s over %s.", t.protocol, familyOfShorthand(name)),
				newMatch(proto(name)), lookup())
		}
	}
	for _, t := range icmp4Errors {
		r.b.add(tableConntrack, priorityStep, c, "ICMP errors over IPv4.",
			newMatch(proto("icmp"), icmpType(t)), lookup())
	}
	for _, t := range icmp6Errors {
		r.b.add(tableConntrack, priorityStep, c, "ICMP errors over IPv6.",
			newMatch(proto("icmp6"), icmpType(t)), lookup())
	}
	for _, f := range [...]condition{firstFragment, laterFragment} {
		r.b.add(tableConntrack, priorityFragment6, c, "Fragments over IPv6, of whatever protocol.",
			newMatch(proto("ipv6"), f), lookup())
	}
	r.b.add(tableConntrack, priorityMiss, c, "All that is not governed: ARP, neighbour discovery, pings, other protocols.",
		newMatch(), gotoTable(tableDeliver))
}

func familyOfShorthand(name string) string {
	if name[len(name)-1] == '6' {
		return "IPv6"
	}
	return "IPv4"
}

// conntrackRead keeps replies of inspected connections as they are: they are un-DNATed after the engine, which must see the
// same two addresses in both directions. The rest gets its translation here, when there is one.
func (r *renderer) conntrackRead() {
	c := cookie(featurePipeline, 0)
	r.b.add(tableConntrackRead, priorityReplyBypass, c, "Replies of inspected connections.",
		newMatch(ctState("-rel+rpl-inv+trk"), ctMark(markInspect)),
		actions(load(fieldPath, pathReplyBypass), gotoTable(tableOutput)))
	if r.inspects() {
		r.b.add(tableConntrackRead, priorityReplyBypass-1, cookie(featureTap, 0), "Replies of connections that only inspections look at.",
			newMatch(ctState("-rel+rpl-inv+trk"), ctMark(markTapped)),
			actions(load(fieldPath, pathReplyBypass), gotoTable(tableTapped)))
	}
	// Open vSwitch (3.5) in userspace takes an ICMPv6 error's own checksum for that of the packet within, and writes what changes in it
	// for a new outer address into the middle of the inner header, so that the Pod's kernel ignores the error. So the outer address
	// gets the value that it will have anyway, before: nothing is left to change. (It is the Service's, from which the Pod expects it.)
	r.b.add(tableConntrackRead, priorityNAT+5, c, "ICMPv6 errors about a translated connection, for the Pod.",
		newMatch(ctState("+rel+trk"), ctMark(markNATed), proto("icmp6"), is(fieldSource, sourceUplink)),
		actions(move("NXM_NX_CT_IPV6_DST[]", "NXM_NX_IPV6_SRC[]"), load(fieldPath, pathOrdinary), translate(tableConntrackState)))
	for _, f := range ipFamilies {
		r.b.add(tableConntrackRead, priorityNAT, c, "Other packets of translated connections.",
			newMatch(proto(f), ctMark(markNATed)),
			actions(load(fieldPath, pathOrdinary), translate(tableConntrackState)))
		r.b.add(tableConntrackRead, priorityRelated, c, "ICMP errors about a connection: the packet within may need its translation.",
			newMatch(proto(f), ctState("+rel+trk")),
			actions(load(fieldPath, pathOrdinary), translate(tableConntrackState)))
	}
	r.b.add(tableConntrackRead, priorityStep, c, "New connections and those that are not translated.",
		newMatch(), actions(load(fieldPath, pathOrdinary), gotoTable(tableConntrackState)))
}

// conntrackState sends on what has been judged. A connection that carries its group's present epoch has been, whether or not it
// was answered yet (a repeated SYN is not judged twice); any other, also one that is established, is judged now.
func (r *renderer) conntrackState() {
	c := cookie(featurePipeline, 0)
	for _, name := range [...]string{"icmp", "icmp6"} {
		r.b.add(tableConntrackState, priorityICMPError, c, "ICMP errors, and fragments of other ICMP.",
			newMatch(proto(name)), gotoTable(tableDeliver))
	}
	r.b.add(tableConntrackState, priorityFirstPing6, c,
		"First fragments of ICMP over IPv6, in a direction that is not governed: they must go where the later ones go.",
		newMatch(ctState("+new+trk"), proto("icmp6"), is(fieldGroup, 0), firstFragment),
		actions(load(fieldEpoch, epochUngoverned), gotoTable(tableCommit)))
	r.b.add(tableConntrackState, priorityICMPError, c, "Later fragments over IPv6 that belong to no connection: they may be a ping's.",
		newMatch(ctState("+inv+trk"), proto("ipv6"), laterFragment), gotoTable(tableDeliver))
	r.b.add(tableConntrackState, priorityInvalid, c, "Packets that belong to no connection and cannot open one.",
		newMatch(ctState("+inv+trk")), drop)
	r.b.add(tableConntrackState, priorityReply, c, "Replies: judged with the connection.",
		newMatch(ctState("+rpl+trk")), gotoTable(tableOutput))
	if r.asks {
		r.clientsOfState()
	}
	r.b.add(tableConntrackState, priorityEpoch, c, "Connections in a direction that is not governed.",
		newMatch(is(fieldGroup, 0), ctEpoch(epochUngoverned)), gotoTable(tableOutput))
	r.b.add(tableConntrackState, priorityStep, c, "New connections in a direction that is not governed.",
		newMatch(is(fieldGroup, 0)), actions(load(fieldEpoch, epochUngoverned), gotoTable(tableNewConnection)))
	for i := range r.groups {
		g := &r.groups[i]
		c := cookie(featureGroup, g.number)
		r.b.add(tableConntrackState, priorityEpoch, c, fmt.Sprintf("Connections that group %s has judged.", g.Key),
			newMatch(is(fieldGroup, g.number), ctEpoch(EpochOf(g.Group))), gotoTable(tableOutput))
		r.b.add(tableConntrackState, priorityStep, c, fmt.Sprintf("Connections that group %s is to judge.", g.Key),
			newMatch(is(fieldGroup, g.number)), actions(append(r.judgedBy(g), gotoTable(tableNewConnection))...))
	}
	r.b.add(tableConntrackState, priorityMiss, c, "Packets of no group.", newMatch(), drop)
}

// judgedBy loads what a connection carries that a group has judged.
func (r *renderer) judgedBy(g *group) []string {
	return []string{load(fieldEpoch, EpochOf(g.Group)), load(fieldEngineSlot, uint32(r.ports.EngineSlot))}
}
