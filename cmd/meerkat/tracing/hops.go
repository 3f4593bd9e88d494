package tracing

import (
	"fmt"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
)

func side(d plan.Direction) string { return strings.ToLower(string(d)) }

// request tells of a request's way over an edge.
func (j *journey) request(e *trace.Edge) {
	where := "edge of " + e.Pod
	if !e.OnBridge {
		j.hop(Hop{Node: e.Node, Where: where, What: "nothing selects the Pod: its packets do not pass Meerkat"})
		return
	}
	written := 0
	for i := range e.Request {
		w := &e.Request[i]
		h := Hop{Node: e.Node, Where: where, What: j.passes(e, w), Steps: w.Steps, Stops: w.To == trace.Nowhere || w.To == trace.Agent}
		for _, step := range w.Steps { // each side that the edge plays writes one entry
			if step.Table == "Commit" && written < len(e.Connections) {
				h.Connections = append(h.Connections, e.Connections[written])
				written++
			}
		}
		j.hop(h)
		switch w.To {
		case trace.Engine:
			j.hop(j.engine(e, w.InspectionID))
		case trace.Signer:
			j.hop(Hop{Node: e.Node, Where: "signature engine", What: "of " + w.Engine + ": what its signatures say, only a live probe tells"})
		}
	}
}

// passes says in a line where a packet comes from and goes to.
func (j *journey) passes(e *trace.Edge, w *trace.Way) string {
	policies := "no policy governs its " + side(e.Direction)
	if len(e.Policies) > 0 {
		policies = side(e.Direction) + ", governed by " + strings.Join(e.Policies, " and ")
	}
	to := w.To
	switch w.To {
	case trace.Engine:
		to = fmt.Sprintf("engine as InspectionID %d", w.InspectionID)
	case trace.Signer:
		to = "signature engine of " + w.Engine
	case trace.Agent:
		to = "agent alone: denied"
	}
	text := fmt.Sprintf("%s; from the %s to the %s", policies, w.From, to)
	if w.To == trace.Nowhere {
		text = fmt.Sprintf("%s; from the %s, and dropped", policies, w.From)
	}
	if len(w.Copies) > 0 {
		text += ", a copy to the signature engines of " + strings.Join(w.Copies, " and ")
	}
	return text
}

// engine tells what the engine makes of the request.
func (j *journey) engine(e *trace.Edge, id uint16) Hop {
	i := slices.IndexFunc(e.Inspections, func(in trace.Inspection) bool { return in.ID == id })
	if i < 0 {
		return Hop{Node: e.Node, Where: "engine", What: fmt.Sprintf("InspectionID %d, of which the node knows nothing: nothing passes", id)}
	}
	v := judgeBy(&e.Inspections[i], j.question)
	return Hop{Node: e.Node, Where: "engine", What: fmt.Sprintf("InspectionID %d: %s", id, v.Sentence), Stops: v.Result == Denied}
}

// response tells of the answer's way over an edge.
func (j *journey) response(e *trace.Edge) []Hop {
	where := "edge of " + e.Pod
	if !e.OnBridge {
		return []Hop{{Way: Response, Node: e.Node, Where: where, What: "does not pass Meerkat"}}
	}
	var hops []Hop
	for i := range e.Reply {
		w := &e.Reply[i]
		text := fmt.Sprintf("from the %s to the %s", w.From, w.To)
		last := i == len(e.Reply)-1
		switch w.To {
		case trace.Engine:
			text += fmt.Sprintf(" as it is: %s -> %s", w.Source, w.Destination)
		case trace.Nowhere:
			text = "dropped"
		}
		if last && e.Direction == plan.Egress && len(e.Connections) > 0 && e.Connections[0].Translated && w.Source != j.answer.Server {
			text += fmt.Sprintf("; un-DNAT: %s becomes %s again", w.Source, j.answer.Server)
		}
		hops = append(hops, Hop{Way: Response, Node: e.Node, Where: where, What: text, Steps: w.Steps})
		if w.To == trace.Engine {
			hops = append(hops, Hop{Way: Response, Node: e.Node, Where: "engine", What: fmt.Sprintf("InspectionID %d: the answer, of the same two addresses as the request", w.InspectionID)})
		}
	}
	return hops
}

// end leaves out where the request does not come to: what was traced there is the packet that opened its connection.
func (a *Answer) end() {
	if i := slices.IndexFunc(a.Hops, func(h Hop) bool { return h.Stops }); i >= 0 {
		a.Hops = a.Hops[:i+1]
	}
}

// comeBack tells of the answer, or of what comes in its place.
func (j *journey) comeBack(arrived bool) {
	v := &j.answer.Verdict
	switch {
	case v.Result == Denied && v.Reset:
		j.answer.Hops = append(j.answer.Hops, Hop{Way: Response, Where: "agent", What: "a TCP reset to both ends, as denyAction: Reset says"})
	case v.Result == Denied || v.Result == Lost:
		j.answer.Hops = append(j.answer.Hops, Hop{Way: Response, Where: "client", What: "no answer comes"})
	case arrived:
		for _, hops := range slices.Backward(j.back) {
			j.answer.Hops = append(j.answer.Hops, hops...)
		}
	}
}
