package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/tracing"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
)

// TraceEdge asks a node about a connection at an edge.
func (l *Lab) TraceEdge(ctx context.Context, name string, q trace.Question) (*trace.Edge, error) {
	n, ok := l.nodes[name]
	if !ok {
		return nil, fmt.Errorf("the lab has no node %s", name)
	}
	return n.plane.Trace(ctx, q)
}

// Trace answers why a request passes or not. With live, it is sent, too, and the servers tell whether it came.
func (l *Lab) Trace(ctx context.Context, q tracing.Question, live bool) (*tracing.Answer, error) {
	a, err := tracing.Run(ctx, l.Objects(), l, q)
	if err != nil || !live {
		return a, err
	}
	return a, a.Try(ctx, q, l.probe)
}

// Objects is what the lab consists of, as the control plane would show it.
func (l *Lab) Objects() *plan.Snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.cluster.snapshot("")
	for i := range s.Nodes {
		for _, a := range l.cluster.hostIPs[s.Nodes[i].Name] {
			s.Nodes[i].Status.Addresses = append(s.Nodes[i].Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
		}
	}
	return &s
}

// traceRequest is what a client asks a running lab.
type traceRequest struct {
	Question tracing.Question `json:"question"`
	Live     bool             `json:"live,omitempty"`
}

func (l *Lab) handleTrace(w http.ResponseWriter, r *http.Request) {
	var asked traceRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a, err := l.Trace(r.Context(), asked.Question, asked.Live)
	if err != nil {
		refuse(w, err)
		return
	}
	_ = json.NewEncoder(w).Encode(a)
}

// Trace asks a running lab why a request passes or not.
func (c *Client) Trace(ctx context.Context, q tracing.Question, live bool) (*tracing.Answer, error) {
	var a tracing.Answer
	if err := c.exchange(ctx, http.MethodPost, "/trace", traceRequest{q, live}, &a); err != nil {
		return nil, err
	}
	return &a, nil
}

// Explain asks a node what became of a policy.
func (l *Lab) Explain(ctx context.Context, name, policy string) (*trace.Policy, error) {
	n, ok := l.nodes[name]
	if !ok {
		return nil, fmt.Errorf("the lab has no node %s", name)
	}
	return n.plane.Explain(ctx, policy)
}

// ExplainPolicy tells what a policy is and has become.
func (l *Lab) ExplainPolicy(ctx context.Context, policy types.NamespacedName) (*tracing.Explanation, error) {
	e, err := tracing.Explain(ctx, l.Objects(), l, policy)
	if err != nil {
		return nil, err
	}
	for _, p := range l.Status().Policies { // what its status would tell
		if p.Namespace == policy.Namespace && p.Name == policy.Name {
			e.Denied, e.Audited = p.Status.Denied, p.Status.Audited
		}
	}
	return e, nil
}

func (l *Lab) handleExplain(w http.ResponseWriter, r *http.Request) {
	e, err := l.ExplainPolicy(r.Context(), types.NamespacedName{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")})
	if err != nil {
		refuse(w, err)
		return
	}
	_ = json.NewEncoder(w).Encode(e)
}

// ExplainPolicy asks a running lab what a policy is and has become.
func (c *Client) ExplainPolicy(ctx context.Context, policy types.NamespacedName) (*tracing.Explanation, error) {
	var e tracing.Explanation
	if err := c.exchange(ctx, http.MethodGet, "/policies/"+policy.String(), nil, &e); err != nil {
		return nil, err
	}
	return &e, nil
}

// refuse answers with an error, and tells whether it is the question's.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if _, bad := errors.AsType[*tracing.QuestionError](err); bad {
		status = http.StatusBadRequest
	}
	http.Error(w, err.Error(), status)
}
