package alerts

import (
	"fmt"

	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Verdict is the verdict event of an alert whose packet was dropped: no policy denied it, but a signature did.
func (e *Event) Verdict() verdict.Event {
	client, server := e.Source, e.Destination
	if e.ToClient {
		client, server = server, client
	}
	v := verdict.Event{
		Time: e.Time, Verdict: verdict.Deny, Node: e.Node, Policies: []string{}, Inspections: e.Inspections,
		Signature: &verdict.Signature{SID: e.Signature.SID, Rev: e.Signature.Rev, Message: e.Signature.Message},
		Direction: e.Direction, Layer: 7, Protocol: e.Protocol, Client: client.Peer, Server: server.Peer, Service: server.Service,
		Application: e.Application, Reason: "signature", SID: e.Signature.SID, FlowID: e.FlowID,
		Why: []string{fmt.Sprintf("the signature %d says drop: %s", e.Signature.SID, e.Signature.Message)},
	}
	for _, s := range e.RuleSets {
		v.RuleSets = append(v.RuleSets, s.Name)
	}
	return v
}
