package openflow

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// Tracer tells what a bridge would do with a packet. Nothing is sent, and no counter changes.
type Tracer interface {
	// Trace gives what `ovs-appctl ofproto/trace` prints for a packet, written as ovs-ofctl writes a flow. Each time that connection tracking
	// looks at it, the next of states ("trk,new") is what it finds; the last one counts for all further times. With actions, the packet
	// begins with these and not at a port (`ofproto/trace-packet-out`).
	Trace(ctx context.Context, flow string, states []string, actions string) (string, error)
}

var _ Tracer = &OVS{}

// mostRecirculations is how many times a packet of ours meets connection tracking at most, before it leaves: as often is told what it finds.
const mostRecirculations = 8

// Trace asks ovs-vswitchd by its control socket, as ovs-appctl does: a trace takes a dozen questions, and starting a program for each
// would take longer than all of the answers.
func (s *OVS) Trace(ctx context.Context, flow string, states []string, actions string) (string, error) {
	method, arguments := "ofproto/trace", []string{s.bridge(), flow}
	for i := range mostRecirculations {
		if len(states) > 0 {
			arguments = append(arguments, "--ct-next", states[min(i, len(states)-1)])
		}
	}
	if actions != "" {
		method, arguments = "ofproto/trace-packet-out", append(arguments, actions)
	}
	text, err := s.control(ctx, method, arguments)
	if err != nil {
		return "", s.failed(&CommandError{Program: "ovs-appctl", Arguments: append([]string{method}, arguments...), Err: err})
	}
	return text, nil
}

// control has ovs-vswitchd do a command: JSON-RPC over its control socket, see "unixctl" in Open vSwitch's own documentation.
func (s *OVS) control(ctx context.Context, method string, arguments []string) (string, error) {
	if err := s.database(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout())
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", s.controlSocket())
	if err != nil {
		return "", err
	}
	defer conn.Close() //nolint:errcheck // all was said
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := json.NewEncoder(conn).Encode(map[string]any{"id": 0, "method": method, "params": arguments}); err != nil {
		return "", err
	}
	var answer struct{ Result, Error *string }
	if err := json.NewDecoder(conn).Decode(&answer); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", fmt.Errorf("ovs-vswitchd does not answer: %w", err)
	}
	switch {
	case answer.Error != nil:
		return "", fmt.Errorf("ovs-vswitchd refuses it: %s", *answer.Error)
	case answer.Result == nil:
		return "", fmt.Errorf("ovs-vswitchd answers neither with a result nor with an error")
	}
	return *answer.Result, nil
}
