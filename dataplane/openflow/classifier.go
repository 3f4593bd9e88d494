package openflow

import (
	"fmt"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
)

// classifier finds out where a packet comes from.
func (r *renderer) classifier() {
	r.probes()
	r.resets()
	if r.asks {
		r.clientAnswers()
	}
	for _, e := range []struct {
		port uint32
		what string
	}{{r.ports.EngineA, "Replies"}, {r.ports.EngineB, "Requests"}} {
		if e.port == 0 {
			continue
		}
		comment, does := e.what+" that come back from the engine.", gotoTable(tableAfterEngine)
		if !r.engineUp { // it may be slow, or have been stopped: what it held until now is out of date
			comment, does = e.what+" that an engine returns which does not inspect, and too late.", drop
		}
		r.b.add(tableClassifier, priorityEngine, cookie(featureEngine, e.port), comment,
			newMatch(inPort(e.port), vlanTCI(vlanPresent, vlanPresent)), does)
	}
	r.fromSignatureEngines()
	r.b.add(tableClassifier, priorityTagged, cookie(featurePipeline, 0),
		"Tagged packets from an edge: their tag would pass for an InspectionID's.",
		newMatch(vlanTCI(vlanPresent, vlanPresent)), drop)
	for i := range r.edges {
		e := &r.edges[i]
		r.fromEdge(e, "Packets that Pod %s sends.", e.Pod.String(), side{sourcePod, e.ports.Pod, e.ports.Uplink, e.egress, e.ingress})
		if e.Hairpin {
			r.hairpinReplies(e)
		}
		r.fromEdge(e, "Packets for Pod %s.", e.Pod.String(), side{sourceUplink, e.ports.Uplink, e.ports.Pod, e.ingress, e.egress})
	}
	r.b.add(tableClassifier, priorityMiss, cookie(featurePipeline, 0), "Packets of no edge.", newMatch(), drop)
}

// side is one side of an edge: where its packets come in and go out, and which groups judge connections that are opened from
// there and from the other side.
type side struct {
	source, in, out     uint32
	group, reverseGroup uint32
}

func (r *renderer) fromEdge(e *edge, comment, pod string, s side) {
	r.b.add(tableClassifier, priorityEdge, cookie(featureEdge, uint32(e.number)), fmt.Sprintf(comment, pod),
		newMatch(inPort(s.in)),
		actions(append(e.ways(e.zone(), s), gotoTable(tableConntrack))...))
}

// resets carries the agent's TCP resets, as if they came back from the engine: they must not pass it again, since they belong to
// connections that it has denied. The tag's priority tells those that go the requests' way from those that go the replies'.
func (r *renderer) resets() {
	if r.ports.Agent == 0 || r.ports.EngineA == 0 || r.ports.EngineB == 0 {
		return
	}
	for _, way := range []struct {
		pcp, port uint32
		what      string
	}{{ResetToServer, r.ports.EngineB, "servers"}, {ResetToClient, r.ports.EngineA, "clients"}} {
		r.b.add(tableClassifier, priorityEngine, cookie(featureEngine, r.ports.Agent), "The agent's TCP resets to "+way.what+".",
			newMatch(inPort(r.ports.Agent), vlanPCP(way.pcp)),
			actions(load(fieldPath, pathReset), loadInPort(way.port), gotoTable(tableAfterEngine)))
	}
}

// probes carries the agent's in-band probes through the engine and back, whether or not the engine inspects: they are how the
// agent knows.
func (r *renderer) probes() {
	if r.ports.Agent == 0 || r.ports.EngineA == 0 || r.ports.EngineB == 0 {
		return
	}
	r.probesOf(cookie(featureProbe, 0), 0, r.ports.EngineA, r.ports.EngineB, "the engine")
}

// probesOf carries the probes of an engine, the way of requests from port a to port b, and the way of replies.
func (r *renderer) probesOf(c uint64, slot uint8, a, b uint32, engine string) {
	for _, way := range []struct {
		what     string
		in, back uint32
		reply    bool
	}{{"requests", a, b, false}, {"replies", b, a, true}} {
		r.b.add(tableClassifier, priorityProbe, c, fmt.Sprintf("The agent's probes, to %s, the way of %s.", engine, way.what),
			newMatch(inPort(r.ports.Agent), ofProbe, dlDst(ledger.ProbeMAC(slot, way.reply))), output(way.in))
		r.b.add(tableClassifier, priorityProbe, c, fmt.Sprintf("The agent's probes, back from %s, the way of %s.", engine, way.what),
			newMatch(inPort(way.back), ofProbe), output(r.ports.Agent))
	}
}
