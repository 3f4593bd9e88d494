package tracing

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
)

const (
	// sourcePort is the client's, of the connection that is traced: any that is not a server's.
	sourcePort = 40000
	// mostOthers is how many endpoints of a Service are asked about besides the first.
	mostOthers = 15
)

// Run answers a question about a cluster's objects, with what the nodes say. An error is about the question, or of a node that does not
// answer.
func Run(ctx context.Context, s *plan.Snapshot, nodes Nodes, q Question) (*Answer, error) {
	o := objects{s}
	client, server, err := o.ends(&q)
	if err != nil {
		return nil, &QuestionError{Err: err}
	}
	if q.Protocol == "" {
		q.Protocol = plan.TCP
	}
	all := o.behind(&q, server)
	if q.Endpoint.IsValid() && !slices.Contains(all, q.Endpoint) {
		return nil, &QuestionError{Err: fmt.Errorf("%s is no endpoint of %s; they are %v", q.Endpoint, q.To, all)}
	}
	a, err := one(ctx, o, nodes, q, client, server)
	if err != nil || q.Endpoint.IsValid() {
		return a, err
	}
	for i, e := range all {
		if e == a.Endpoint || i > mostOthers {
			continue
		}
		q.Endpoint = e
		other, err := one(ctx, o, nodes, q, client, server)
		if err != nil {
			continue // it may be one that only other nodes use
		}
		if other.Verdict.Sentence != a.Verdict.Sentence {
			name := ""
			if p := o.at(e.Addr()); p != nil {
				name = nameOf(p).String()
			}
			a.Others = append(a.Others, Other{Endpoint: e, Pod: name, Verdict: other.Verdict})
		}
	}
	return a, nil
}

// QuestionError says that what is asked about does not exist.
type QuestionError struct{ Err error }

func (e *QuestionError) Error() string { return e.Err.Error() }

// Unwrap gives what is wrong.
func (e *QuestionError) Unwrap() error { return e.Err }

// behind gives the endpoints of the Service at an address; none when there is no Service.
func (o objects) behind(q *Question, at netip.AddrPort) []netip.AddrPort {
	f := o.front(at, q.Protocol)
	if f == nil || f.pod != nil {
		return nil
	}
	node, _, err := o.place(q.From)
	if err != nil {
		return nil
	}
	all, _ := o.choices(f, at.Addr().Is6(), node)
	return all
}

func nameOf(p *corev1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}

// journey is one request on its way.
type journey struct {
	objects
	ctx      context.Context //nolint:containedctx // of one answer
	nodes    Nodes
	question *Question
	answer   *Answer
	// client and server are the packet's addresses where it is now.
	client, server netip.AddrPort
	// there are the edges that it has passed, back the hops of the answer in the order of the edges, turned round at the end.
	there []*trace.Edge
	back  [][]Hop
}

// one traces to one endpoint.
func one(ctx context.Context, o objects, nodes Nodes, q Question, client netip.Addr, server netip.AddrPort) (*Answer, error) {
	j := &journey{objects: o, ctx: ctx, nodes: nodes, question: &q, client: netip.AddrPortFrom(client, sourcePort), server: server, answer: &Answer{
		From: q.From.String(), To: q.To.String(), Protocol: q.Protocol, Request: q.asks(), Client: client, Server: server,
	}}
	arrived, err := j.travel()
	if err != nil {
		return nil, err
	}
	j.answer.Verdict = j.judge(arrived)
	j.answer.end()
	j.comeBack(arrived)
	return j.answer, nil
}

// travel goes there, and tells whether the first packet arrives.
func (j *journey) travel() (arrived bool, err error) {
	node, pod, err := j.place(j.question.From)
	if err != nil {
		return false, err
	}
	j.hop(Hop{Node: node, Where: "client", What: fmt.Sprintf("%s sends %s to %s", j.question.From, j.question.asks(), j.named(j.server))})
	j.back = append(j.back, []Hop{{Way: Response, Node: node, Where: "client", What: fmt.Sprintf("an answer from %s, to which the request was sent", j.named(j.server))}})
	turned := false
	if pod != nil {
		e, err := j.edge(node, nameOf(pod), plan.Egress, j.question.Endpoint)
		if err != nil || !e.Delivered {
			return false, err
		}
		j.server = e.Server
		turned = len(e.Request) > 0 && e.Request[len(e.Request)-1].To == trace.Pod
	}
	if ok := turned || j.proxy(node, pod); !ok {
		return false, nil
	}
	j.answer.Endpoint = j.server
	to := j.at(j.server.Addr())
	where := "outside of the cluster, or a node"
	if to != nil {
		where = nameOf(to).String()
	}
	if to != nil && !turned {
		e, err := j.edge(to.Spec.NodeName, nameOf(to), plan.Ingress, netip.AddrPort{})
		if err != nil || !e.Delivered {
			return false, err
		}
	}
	last := Hop{Where: "server", What: fmt.Sprintf("%s, port %d: %s", j.server.Addr(), j.server.Port(), where)}
	if to != nil {
		last.Node = to.Spec.NodeName
	}
	j.hop(last)
	j.back = append(j.back, []Hop{{Way: Response, Node: last.Node, Where: "server", What: fmt.Sprintf("answers from %s", j.server)}})
	return true, nil
}

// place gives the client's node and, where it has a network of its own, its Pod.
func (o objects) place(f From) (node string, pod *corev1.Pod, err error) {
	if f.Node != "" || f.Address.IsValid() {
		return f.Node, nil, nil
	}
	p, err := o.pod(f.Pod)
	if err != nil {
		return "", nil, &QuestionError{Err: err}
	}
	if p.Spec.HostNetwork {
		return p.Spec.NodeName, nil, nil
	}
	return p.Spec.NodeName, p, nil
}

// edge asks a node about an edge, and notes what it says.
func (j *journey) edge(node string, pod types.NamespacedName, d plan.Direction, endpoint netip.AddrPort) (*trace.Edge, error) {
	e, err := j.nodes.TraceEdge(j.ctx, node, trace.Question{
		Pod: pod, Direction: d, Protocol: j.question.Protocol, Client: j.client, Server: j.server, Endpoint: endpoint,
	})
	if err != nil {
		return nil, fmt.Errorf("node %s, asked about %s: %w", node, pod, err)
	}
	j.there = append(j.there, e)
	j.request(e)
	j.back = append(j.back, j.response(e))
	return e, nil
}

func (j *journey) hop(h Hop) {
	h.Way = Request
	j.answer.Hops = append(j.answer.Hops, h)
}

// named is an address with the name of what is there.
func (j *journey) named(at netip.AddrPort) string {
	if f := j.front(at, j.question.Protocol); f != nil {
		return fmt.Sprintf("%s (%s)", at, f)
	}
	if p := j.at(at.Addr()); p != nil {
		return fmt.Sprintf("%s (Pod %s)", at, nameOf(p))
	}
	return at.String()
}
