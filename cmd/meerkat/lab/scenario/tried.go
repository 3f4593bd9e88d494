package scenario

import (
	"cmp"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// Tried is one request that a client has sent, or tried to, as Options.Tried is told of it.
type Tried struct {
	Ends
	// Network is tcp or udp.
	Network string
	// Request is what was asked, in the words of allow-lists.
	Request l7.Request
	Result  traffic.Result
	// Expect is what the scenario wants, and Row what became of it.
	Expect Expect
	Row    Row
}

// tell tells of the attempt, when it was one that allow-lists have words for.
func (a *attempt) tell(row *Row) {
	if tried := a.run.tried; tried != nil && a.request != nil {
		tried(Tried{Ends: a.ends, Network: a.network, Request: *a.request, Result: a.result, Expect: a.Expect, Row: *row})
	}
}

// httpRequest is a request in the words of allow-lists.
func httpRequest(r traffic.HTTPRequest, version string) *l7.Request {
	asked := &l7.Request{
		Protocol: l7.ProtocolHTTP, Version: version, Method: cmp.Or(r.Method, "GET"), Target: cmp.Or(r.Target, "/"), Host: r.Host,
	}
	for _, h := range r.Headers {
		asked.Headers = append(asked.Headers, l7.Header(h))
	}
	return asked
}
