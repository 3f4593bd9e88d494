package tracing

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
)

// Question is who sends what to whom.
type Question struct {
	From From            `json:"from"`
	To   scenario.Target `json:"to"`
	// Family is IPv4 or IPv6; empty stands for the first that both ends have.
	Family   scenario.Family `json:"family,omitempty"`
	Protocol plan.Protocol   `json:"protocol"`
	// Request is what is sent; nil for a connection of which nothing else is known.
	Request *l7.Request `json:"request,omitempty"`
	// Endpoint is the one that the Service is to be resolved to; invalid: any.
	Endpoint netip.AddrPort `json:"endpoint,omitzero"`
}

// From is where the client is: one of the three.
type From struct {
	Pod     types.NamespacedName `json:"pod,omitzero"`
	Node    string               `json:"node,omitempty"`
	Address netip.Addr           `json:"address,omitzero"`
}

// ParseFrom reads NAMESPACE/POD, pod/NAMESPACE/POD, node/NAME or ip/ADDRESS.
func ParseFrom(text string) (From, error) {
	parts := strings.Split(text, "/")
	switch {
	case slices.Contains(parts, ""):
	case len(parts) == 2 && parts[0] == "node":
		return From{Node: parts[1]}, nil
	case len(parts) == 2 && parts[0] == "ip":
		if a, err := netip.ParseAddr(strings.Trim(parts[1], "[]")); err == nil {
			return From{Address: a.Unmap()}, nil
		}
	case len(parts) == 2:
		return From{Pod: types.NamespacedName{Namespace: parts[0], Name: parts[1]}}, nil
	case len(parts) == 3 && parts[0] == "pod":
		return From{Pod: types.NamespacedName{Namespace: parts[1], Name: parts[2]}}, nil
	}
	return From{}, fmt.Errorf("%q is no client: write a Pod as NAMESPACE/NAME, a node as node/NAME, or ip/ADDRESS", text)
}

func (f From) String() string {
	switch {
	case f.Node != "":
		return "node/" + f.Node
	case f.Address.IsValid():
		return "ip/" + f.Address.String()
	}
	return f.Pod.String()
}

// String is the question in a line.
func (q *Question) String() string {
	return fmt.Sprintf("%s -> %s, %s", q.From, q.To, q.asks())
}

// asks is what is sent.
func (q *Question) asks() string {
	r := q.Request
	switch {
	case r == nil:
		return "a " + string(q.Protocol) + " connection"
	case r.Protocol == l7.ProtocolHTTP:
		return r.Method + " " + r.Target
	case r.Protocol == l7.ProtocolTLS && r.ServerName == "":
		return "TLS without a server name"
	case r.Protocol == l7.ProtocolTLS:
		return "TLS to " + r.ServerName
	case r.Protocol == l7.ProtocolDNS:
		return "a query for " + r.Name
	}
	return r.Protocol
}

// Nodes are asked about edges.
type Nodes interface {
	TraceEdge(ctx context.Context, node string, q trace.Question) (*trace.Edge, error)
}
