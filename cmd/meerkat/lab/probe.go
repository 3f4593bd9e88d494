package lab

import (
	"context"
	"fmt"
	"net"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/tracing"
)

// probe sends a request from where its client is.
func (l *Lab) probe(ctx context.Context, from tracing.From, p traffic.Probe) (traffic.Result, error) {
	if from.Address.IsValid() {
		return traffic.Result{}, fmt.Errorf("a lab sends from a Pod or a node, and not from %s", from)
	}
	return p.Send(ctx, func(ctx context.Context, network, address string) (net.Conn, error) {
		return l.Dial(ctx, scenario.Place{Pod: from.Pod, Node: from.Node}, network, address)
	}), nil
}
