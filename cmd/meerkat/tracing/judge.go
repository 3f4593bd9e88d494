package tracing

import (
	"fmt"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
)

// judge sums up: what flows deny comes before what engines deny, since a connection is opened before anything is asked on it.
func (j *journey) judge(arrived bool) Verdict {
	for _, e := range j.there {
		if v, stops := byFlows(e); stops {
			return v
		}
	}
	if !arrived {
		return Verdict{Result: Lost, Sentence: "lost: " + j.answer.Hops[len(j.answer.Hops)-1].What}
	}
	for _, e := range j.there {
		if at := unanswered(e); at != "" {
			return Verdict{Result: Lost, Layer: 4, Direction: e.Direction, Sentence: "the request arrives, and the answer is lost at " + at}
		}
	}
	sum := Verdict{Result: Allowed}
	var said []string
	for _, e := range j.there {
		for i := range e.Inspections {
			v := judgeBy(&e.Inspections[i], j.question)
			if !e.Inspections[i].Passed {
				v.Result, v.Sentence = Allowed, fmt.Sprintf("passes %s (%s) unseen, which fails open while the engine does not inspect (%s)",
					names(v.Policies), side(v.Direction), e.EngineDown)
			}
			if v.Result == Denied {
				return v
			}
			if worse(v.Result, sum.Result) || sum.Policies == nil {
				sum = v
			}
			said = append(said, v.Sentence)
		}
		if e.AllowedAtL4 && len(e.Inspections) == 0 {
			said = append(said, fmt.Sprintf("allowed by %s (%s), whatever is sent", names(e.Policies), side(e.Direction)))
			if sum.Policies == nil {
				sum.Policies, sum.Direction, sum.Layer = e.Policies, e.Direction, 4
			}
		}
	}
	if len(said) == 0 {
		said = []string{"passes: no policy governs it"}
	}
	sum.Sentence = strings.Join(said, "; ")
	return sum
}

func worse(a, b Result) bool {
	rank := map[Result]int{Allowed: 0, Audited: 1, Depends: 2, Denied: 3, Lost: 3}
	return rank[a] > rank[b]
}

func names(policies []string) string { return strings.Join(policies, " and ") }

// byFlows says what the flows of an edge do, when the connection does not come beyond it.
func byFlows(e *trace.Edge) (Verdict, bool) {
	switch {
	case e.Delivered:
		return Verdict{}, false
	case e.Denied != nil && e.Denied.Full:
		return Verdict{Result: Lost, Direction: e.Denied.Direction, Layer: 4,
			Sentence: "lost: Open vSwitch holds as many connections as it may, and takes in no more"}, true
	case e.Denied != nil:
		d := e.Denied
		return Verdict{
			Result: Denied, Policies: d.Policies, Direction: d.Direction, Layer: 4, Reset: d.Reset,
			Sentence: fmt.Sprintf("denied by %s (%s): no rule is for this peer and port", names(d.Policies), side(d.Direction)),
		}, true
	}
	for i := range e.Inspections {
		if in := &e.Inspections[i]; !in.Passed {
			return Verdict{Result: Lost, Policies: in.Policies, Direction: in.Direction, Layer: 4, InspectionID: in.ID,
				Sentence: fmt.Sprintf("lost: %s (%s) fails closed while the engine does not inspect (%s)", names(in.Policies), side(in.Direction), e.EngineDown)}, true
		}
	}
	return Verdict{Result: Lost, Layer: 4, Direction: e.Direction, Sentence: "lost at " + end(e.Pod, e.Request)}, true
}

// end says where ways over an edge end.
func end(pod string, ways []trace.Way) string {
	at := "the edge of " + pod
	if n := len(ways); n > 0 && len(ways[n-1].Steps) > 0 {
		last := ways[n-1].Steps[len(ways[n-1].Steps)-1]
		at += fmt.Sprintf(", table %s: %s", last.Table, last.What)
	}
	return at
}

// unanswered says where an edge loses the answer; "" when it comes to the other side.
func unanswered(e *trace.Edge) string {
	to := trace.Node // where the request came from
	if e.Direction == plan.Egress {
		to = trace.Pod
	}
	if !e.OnBridge || len(e.Reply) > 0 && e.Reply[len(e.Reply)-1].To == to {
		return ""
	}
	return end(e.Pod, e.Reply)
}

// judgeBy says what the engine makes of a request, by the reference evaluator and the entries that it has loaded.
func judgeBy(in *trace.Inspection, q *Question) Verdict {
	v := Verdict{Result: Denied, Policies: in.Policies, Direction: in.Direction, Layer: 7, InspectionID: in.ID, Reset: in.Reset}
	by := fmt.Sprintf("%s (%s)", names(in.Policies), side(in.Direction))
	deny := func(why string) Verdict {
		v.Sentence = "denied by " + by + ": " + why
		if in.Audit {
			v.Result, v.Reset = Audited, false
			v.Sentence = "passes, audited by " + by + ": " + why
		}
		return v
	}
	if len(in.Entries) == 0 {
		return deny("no rule is for this peer and port")
	}
	if q.Request == nil {
		v.Result, v.Reset = Depends, false
		v.Sentence = fmt.Sprintf("depends on what is sent: %s looks at it, by the rules %s", by, strings.Join(rules(in.Entries), ", "))
		return v
	}
	reasons := l7.Explain(in.Entries, *q.Request)
	if reasons == nil {
		v.Result, v.Reset = Allowed, false
		for _, e := range in.Entries {
			if v.Rule == "" && l7.Allows([]l7.Entry{e}, *q.Request) {
				v.Rule = e.Rule
			}
		}
		v.Sentence = fmt.Sprintf("allowed by %s: the rule %s is for %s", by, v.Rule, q.asks())
		return v
	}
	for _, r := range reasons {
		v.Why = append(v.Why, r.String())
	}
	nearest := l7.Nearest(reasons)
	v.Rule = nearest.Rule
	why := "no rule allows " + q.asks()
	if nearest.Wants == "" {
		return deny(why + ": " + nearest.Why)
	}
	return deny(why + "; the nearest is " + nearest.Rule + ", " + nearest.Wants)
}

func rules(entries []l7.Entry) []string {
	var all []string
	for i := range entries {
		if n := len(all); n == 0 || all[n-1] != entries[i].Rule {
			all = append(all, entries[i].Rule)
		}
	}
	return all
}
