package node

import (
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/flowexport"
	"github.com/meerkat-dev/meerkat/dataplane/flowexport/protocols"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// FlowDenial is a verdict event as exports tell of it; false when nothing was denied.
func FlowDenial(e *verdict.Event) (flowexport.Denial, bool) {
	number, known := protocols.Number(e.Protocol)
	if e.Verdict != verdict.Deny && e.Verdict != verdict.Drop || !known {
		return flowexport.Denial{}, false
	}
	d := flowexport.Denial{
		Time: e.Time, Protocol: number, Client: e.Client.Address, Server: e.Server.Address, Direction: flowexport.Ingress,
		ByEngine: e.Layer != 4, Policies: e.Policies, Rule: e.Rule, Reason: flowReason(e), Application: flowApplication(e),
	}
	if e.Direction == plan.Egress {
		d.Direction = flowexport.Egress
	}
	if e.Client.Via.IsValid() {
		d.Client, d.OriginalClient = e.Client.Via, e.Client.Address
	}
	if e.Service != nil {
		d.Service = e.Service.Address
	}
	if len(d.Policies) == 0 { // a signature's drop
		d.Policies = e.Inspections
	}
	return d, true
}

// flowReason says why something was denied: the signature that did, the first thing that would have had to be otherwise, or the engine's
// own word.
func flowReason(e *verdict.Event) string {
	switch {
	case e.Signature != nil:
		return e.Signature.Message
	case len(e.Why) > 0:
		return e.Why[0]
	case e.Reason != "":
		return e.Reason
	}
	return "no rule allows it"
}

// FlowRequest is a verdict event of an allowed request; false when it is none.
func FlowRequest(e *verdict.Event) (flowexport.Request, bool) {
	number, known := protocols.Number(e.Protocol)
	if e.Verdict != verdict.Allow || !known {
		return flowexport.Request{}, false
	}
	r := flowexport.Request{
		Protocol: number, Client: e.Client.Address, Server: e.Server.Address, Policies: e.Policies, Rule: e.Rule, Application: flowApplication(e),
	}
	if e.Client.Via.IsValid() {
		r.Client = e.Client.Via
	}
	return r, true
}

func flowApplication(e *verdict.Event) flowexport.Application {
	a := flowexport.Application{Protocol: e.Application}
	switch {
	case e.HTTP != nil:
		a.Method, a.Path, a.Name = e.HTTP.Method, e.HTTP.Path, e.HTTP.Host
	case e.TLS != nil:
		a.Name = e.TLS.ServerName
	case e.DNS != nil:
		a.Name = strings.Join(e.DNS.Names, ",")
	}
	return a
}
