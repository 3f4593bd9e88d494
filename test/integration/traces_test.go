package integration

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/tracing"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
)

// untraced are the scenarios whose requests traces are not compared with, and why.
var untraced = map[string]string{
	"engine-failure":        "the engine is killed while requests are under way",
	"engine-restart":        "the engine is killed while requests are under way",
	"nothing-slips-past":    "its requests are malformed, so that the engine, and no allow-list, decides",
	"inspection-matrix":     "signatures decide",
	"detect":                "signatures decide",
	"prevent-behind-policy": "signatures decide",
}

// traces compares what a trace says of every request of a scenario with what has just become of it.
type traces struct {
	t *testing.T

	mu    sync.Mutex
	asked map[string]*tracing.Answer // by question and state of the lab
	edges map[string]*trace.Edge     // by question and state of the lab, whatever is sent
	cells map[string]bool
	took  time.Duration
}

// What is outside of the lab's nodes has these addresses.
var outsideIPv4, outsideIPv6 = netip.MustParseAddr("172.31.0.254"), netip.MustParseAddr("fd00:31::ffff")

// Sums over all scenarios.
var tracedCells, tracedRequests, disagreements atomic.Int64

func newTraces(t *testing.T) *traces {
	return &traces{t: t, asked: map[string]*tracing.Answer{}, edges: map[string]*trace.Edge{}, cells: map[string]bool{}}
}

// tried looks at one request. It is called while the lab is as the request has found it.
func (tr *traces) tried(l *lab.Lab, tried scenario.Tried) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tried.Expect == scenario.Any || tried.Result.Outcome == traffic.Unsent || tried.Result.Outcome == traffic.Failed {
		return // it went down with its connection
	}
	q := tracing.Question{
		From: tracing.From{Pod: tried.From.Pod, Node: tried.From.Node}, To: tried.To, Family: tried.Family,
		Protocol: plan.Protocol(strings.ToUpper(tried.Network)), Request: &tried.Request,
	}
	if tried.From.Outside {
		q.From.Address = outsideIPv4
		if tried.Family == scenario.IPv6 || strings.Contains(tried.To.Address, ":") {
			q.From.Address = outsideIPv6
		}
	}
	cell := fmt.Sprintf("%d %s %s %s %+v", l.Changes(), q.String(), q.Family, q.Protocol, tried.Request)
	a := tr.asked[cell]
	if a == nil {
		began := time.Now()
		var err error
		if a, err = tracing.Run(tr.t.Context(), l.Objects(), sameEdges{l, tr.edges}, q); err != nil {
			tr.t.Errorf("line %d, %s: no trace: %v", tried.Row.Line, q.String(), err)
			return
		}
		tr.took += time.Since(began)
		tr.asked[cell] = a
	}
	tr.cells[cell] = true
	tracedRequests.Add(1)
	if problem := disagree(a, tried); problem != "" {
		disagreements.Add(1)
		var text strings.Builder
		_ = a.Write(&text, tracing.WriteOptions{})
		tr.t.Errorf("line %d: the trace disagrees: %s\n%s", tried.Row.Line, problem, &text)
	}
	for _, h := range a.Hops {
		for _, s := range h.Steps {
			if s.What == "" || s.Table == "" {
				tr.t.Errorf("a flow of the bridge has no explanation: %+v", s)
			}
		}
	}
}

// sameEdges asks the lab's nodes, once for all requests that go the same way.
type sameEdges struct {
	lab   *lab.Lab
	known map[string]*trace.Edge
}

func (s sameEdges) TraceEdge(ctx context.Context, node string, q trace.Question) (*trace.Edge, error) {
	key := fmt.Sprintf("%d %s %+v", s.lab.Changes(), node, q)
	if e := s.known[key]; e != nil {
		return e, nil
	}
	e, err := s.lab.TraceEdge(ctx, node, q)
	if err == nil {
		s.known[key] = e
	}
	return e, err
}

// disagree says in what a trace and what has happened differ; "" when they do not. Where a Service has several endpoints that differ, what
// happened must be what becomes of it at one of them: at the one that answered, if one did.
func disagree(a *tracing.Answer, tried scenario.Tried) string {
	verdicts := []tracing.Other{{Endpoint: a.Endpoint, Verdict: a.Verdict}}
	verdicts = append(verdicts, a.Others...)
	var problems []string
	for _, v := range verdicts {
		problem := differs(&v.Verdict, tried)
		if problem == "" {
			return ""
		}
		problems = append(problems, problem)
	}
	return strings.Join(problems, "; or: ")
}

func differs(v *tracing.Verdict, tried scenario.Tried) string {
	answered := tried.Result.Outcome == traffic.Answered
	switch {
	case v.Passes() != answered:
		return fmt.Sprintf("it says %q, and the client saw: %s", v.Sentence, tried.Row.Got)
	case v.Result == tracing.Depends:
		return "it says that it depends on the request, which is known"
	case v.Result != tracing.Denied && v.Result != tracing.Audited:
		if len(tried.Row.By) > 0 {
			return fmt.Sprintf("it says %q, and a verdict event names %v", v.Sentence, tried.Row.By)
		}
		return ""
	case !slices.Equal(slices.Sorted(slices.Values(v.Policies)), tried.Row.By):
		return fmt.Sprintf("it names %v, and the verdict event %v", v.Policies, tried.Row.By)
	case tried.Row.Direction != "" && string(v.Direction) != tried.Row.Direction:
		return fmt.Sprintf("it says %s, and the verdict event %s", v.Direction, tried.Row.Direction)
	}
	return ""
}
