package openflow

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// commit writes the verdict into the connection. A connection that is judged anew keeps the translation that it has.
func (r *renderer) commit() {
	for _, e := range r.sortedEndpoints() {
		r.b.add(tableCommit, priorityTranslate, cookie(featureService, r.endpoints[e]),
			fmt.Sprintf("New connections to endpoint %s of a Service.", e),
			newMatch(proto(family(e.Addr())), is(fieldTranslate, 1), is(fieldEndpoint, r.endpoints[e])),
			r.commitTranslated(tableCommitted, e))
	}
	r.commitDirect()
	r.hairpinCommit()
	for _, f := range ipFamilies {
		r.b.add(tableCommit, priorityStep, cookie(featurePipeline, 0), "Other connections that have been judged.",
			newMatch(proto(f)), r.commitVerdict(tableCommitted))
	}
	r.b.add(tableCommit, priorityMiss, cookie(featurePipeline, 0), "Nothing comes here.", newMatch(), drop)
}

// commitDirect writes down connections of governed Pods to endpoints by their own addresses, which may be reached by a Service's as well. A
// client's kernel may use one port for both, and behind the translation they would be one connection: the later would take the replies of the
// earlier. So it is translated as well, to where it goes anyway: conntrack then gives it another port, as the kernel's does by itself.
func (r *renderer) commitDirect() {
	if len(r.tcpEndpoints()) == 0 {
		return
	}
	for _, f := range ipFamilies {
		r.b.add(tableCommit, priorityTranslate-1, cookie(featurePipeline, 0), "New connections in a direction that is not governed.",
			newMatch(proto(f), is(fieldGroup, 0)), r.commitVerdict(tableCommitted))
	}
	for _, e := range r.tcpEndpoints() {
		r.b.add(tableCommit, priorityTranslate-2, cookie(featureService, r.endpoints[e]),
			fmt.Sprintf("New connections to endpoint %s of a Service, by its own address.", e),
			newMatch(notYetJudged, proto(shorthand(plan.TCP, e.Addr())), is(fieldSource, sourcePod), is(fieldTranslate, 0), dstIn(single(e.Addr())), tpDst(e.Port())),
			r.commitTranslated(tableCommitted, e))
	}
}

// tcpEndpoints are the endpoints of all Services over TCP, sorted.
func (r *renderer) tcpEndpoints() []netip.AddrPort {
	var all []netip.AddrPort
	for i := range r.plan.Services {
		if s := &r.plan.Services[i]; s.Protocol == plan.TCP {
			all = append(all, s.Endpoints...)
		}
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all)
}

// committed stops what Commit could not write down. When conntrack has as many connections as it may, it takes in no more and says
// nothing: the packet would go on without mark, label and translation, around the engine and to an endpoint that nobody judged.
func (r *renderer) committed() {
	r.b.add(tableCommitted, priorityUngoverned, cookie(featurePipeline, 0), "Connections that are left to kube-proxy, which have no epoch.",
		newMatch(is(fieldEpoch, epochNone)), gotoTable(tableOutput))
	for _, d := range fullDenials {
		source, whose := uint32(sourceUplink), "to"
		if d.Direction == plan.Egress {
			source, whose = sourcePod, "of"
		}
		r.b.add(tableCommitted, priorityStep, cookie(featureDenial, d.Number),
			"New connections "+whose+" a governed Pod while conntrack is full.",
			newMatch(ctEpoch(epochNone), is(fieldSource, source)), r.deny(d.Number))
	}
	r.b.add(tableCommitted, priorityMiss, cookie(featurePipeline, 0), "Connections that conntrack holds.",
		newMatch(), gotoTable(tableOutput))
}

// output sends inspected connections to the engine.
func (r *renderer) output() {
	if r.engineUp && r.ports.EngineA != 0 && r.ports.EngineB != 0 {
		r.toEngine()
	} else {
		r.b.withoutEngine(r.onward())
	}
	r.b.add(tableOutput, priorityStep, cookie(featurePipeline, 0), "Connections that are not inspected.",
		newMatch(ctMarkClear(markInspect)), r.onward())
	r.b.add(tableOutput, priorityMiss, cookie(featurePipeline, 0), "Inspected ones, should somebody take away what leads them to the engine.",
		newMatch(), drop)
}

func (r *renderer) toEngine() {
	c := cookie(featureEngine, 0)
	r.b.add(tableOutput, priorityOutputReply+2, c, "Replies of inspected connections, as they are.",
		newMatch(is(fieldPath, pathReplyBypass), ctSlot(r.ports.EngineSlot)), toEngine(r.ports.EngineB))
	// An engine (Suricata 8.0.8) that takes up a connection by a packet of its server takes the server's next acknowledgement for one of
	// data that the client may not send yet, and from then on does not follow the replies. A copy of that first packet helps.
	for _, name := range [...]string{"tcp", "tcp6"} {
		r.b.add(tableOutput, priorityOutputReply+1, c, "The first reply that this engine sees of a connection which is older than the engine: twice.",
			newMatch(proto(name), is(fieldPath, pathReplyBypass)), actions(
				toEngine(r.ports.EngineB), output(r.ports.EngineB), popVLAN, commitSlot(labelSlotShift, r.ports.EngineSlot)))
	}
	r.b.add(tableOutput, priorityOutputReply, c, "Other replies of such connections.",
		newMatch(is(fieldPath, pathReplyBypass)), toEngine(r.ports.EngineB))
	r.b.add(tableOutput, priorityOutputInspect, c, "Requests of inspected connections, translated.",
		newMatch(ctMark(markInspect)), toEngine(r.ports.EngineA))
}

// withoutEngine holds each connection's failure policy. What passes does so as if it had come back from the engine: onward.
func (b *Bundle) withoutEngine(onward string) {
	c := cookie(featureEngine, 0)
	translated := onward
	if onward == gotoTable(tableDeliver) {
		translated = translate(tableDeliver)
	}
	for _, f := range ipFamilies {
		b.add(tableOutput, priorityOutputReply+2, c, "No engine, fail open: replies of translated connections.",
			newMatch(ctMark(markFailOpen|markNATed), proto(f), is(fieldPath, pathReplyBypass)), translated)
	}
	b.add(tableOutput, priorityOutputReply+1, c, "No engine, fail open: other replies.",
		newMatch(ctMark(markFailOpen), is(fieldPath, pathReplyBypass)), onward)
	b.add(tableOutput, priorityOutputReply, c, "No engine, fail closed: replies.",
		newMatch(is(fieldPath, pathReplyBypass)), drop)
	b.add(tableOutput, priorityOutputInspect+1, c, "No engine, fail open: requests.",
		newMatch(ctMark(markInspect|markFailOpen)), onward)
	b.add(tableOutput, priorityOutputInspect, c, "No engine, fail closed: requests.",
		newMatch(ctMark(markInspect)), drop)
}

// afterEngine finds a packet's edge again. The tag's top bit is the direction, the engine port tells requests from replies, and
// the Pod's address is the source or the destination accordingly.
func (r *renderer) afterEngine() {
	if r.ports.EngineA != 0 && r.ports.EngineB != 0 {
		for i := range r.edges {
			r.edgeAfterEngine(&r.edges[i])
		}
	}
	r.b.add(tableAfterEngine, priorityMiss, cookie(featurePipeline, 0), "Packets of an edge that is gone.", newMatch(), drop)
}

func (r *renderer) edgeAfterEngine(e *edge) {
	c := cookie(featureEdge, uint32(e.number))
	const egress, ingress = vlanPresent | vlanEgress, vlanPresent
	const mask = vlanPresent | vlanEgress
	add := func(priority int, comment, match string, does ...string) {
		r.b.add(tableAfterEngine, priority, c, fmt.Sprintf(comment, e.Pod), match, actions(does...))
	}
	add(priorityEdge, "Requests that Pod %s sends.",
		newMatch(inPort(r.ports.EngineB), vlanTCI(egress, mask), dlSrc(e.ports.MAC)),
		append(r.chained(e.egress, false, popVLAN, load(fieldOutPort, e.ports.Uplink)), r.afterPolicy(e.egress, gotoTable(tableDeliver)))...)
	add(priorityEdge, "Requests to Pod %s.",
		newMatch(inPort(r.ports.EngineB), vlanTCI(ingress, mask), dlDst(e.ports.MAC)),
		append(r.chained(e.ingress, false, popVLAN, load(fieldOutPort, e.ports.Pod)), r.afterPolicy(e.ingress, gotoTable(tableDeliver)))...)
	for _, f := range ipFamilies {
		add(priorityEdge, "Replies to Pod %s: un-DNATed here, after the engine.",
			newMatch(proto(f), inPort(r.ports.EngineA), vlanTCI(egress, mask), dlDst(e.ports.MAC)),
			append(r.chained(e.egress, true, popVLAN, load(fieldZone, e.zone()), load(fieldOutPort, e.ports.Pod)),
				r.unDNATAfterPolicy(e.egress, translate(tableDeliver))...)...)
		// Other replies conntrack has seen before the engine. Without this, it would hold a denied connection for open, and the next
		// one from the client's port for a part of it that makes no sense.
		add(priorityReset, "The agent's TCP resets in the name of Pod %s.",
			newMatch(proto(f), is(fieldPath, pathReset), inPort(r.ports.EngineA), vlanTCI(ingress, mask), dlSrc(e.ports.MAC)),
			popVLAN, load(fieldZone, e.zone()), load(fieldOutPort, e.ports.Uplink), show(tableDeliver))
	}
	sent := []string{popVLAN, load(fieldOutPort, e.ports.Uplink)}
	if r.hasTaps(e.ingress) {
		sent = append(sent, load(fieldZone, e.zone())) // where their connection is looked up
	}
	add(priorityEdge, "Replies that Pod %s sends.",
		newMatch(inPort(r.ports.EngineA), vlanTCI(ingress, mask), dlSrc(e.ports.MAC)),
		append(r.chained(e.ingress, true, sent...), r.afterPolicy(e.ingress, gotoTable(tableDeliver)))...)
	if e.Hairpin {
		r.hairpinAfterEngine(e)
	}
}

// deliver sends a packet out of its edge's other side.
func (r *renderer) deliver() {
	for i := range r.edges {
		if r.edges[i].Hairpin {
			r.hairpinTurns(&r.edges[i])
		}
	}
	r.b.add(tableDeliver, priorityStep, cookie(featurePipeline, 0), "All that has come this far.",
		newMatch(), "output:"+fieldOutPort.name())
}
