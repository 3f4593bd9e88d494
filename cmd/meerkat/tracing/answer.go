package tracing

import (
	"net/netip"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
)

// Result is what becomes of a request.
type Result string

// Results.
const (
	Allowed Result = "allowed"
	// Audited: it passes, and is reported as what would be denied.
	Audited Result = "audited"
	// Denied: by a policy.
	Denied Result = "denied"
	// Depends: on what is sent, which the question does not say.
	Depends Result = "depends"
	// Lost: no policy denies it, and it does not arrive all the same.
	Lost Result = "lost"
)

// Answer is a request's way and what becomes of it. Its JSON form is what -o json prints and --diff reads.
type Answer struct {
	From     string        `json:"from"`
	To       string        `json:"to"`
	Protocol plan.Protocol `json:"protocol"`
	Request  string        `json:"request"`
	// Client and Server are the addresses that the client uses.
	Client netip.Addr     `json:"client"`
	Server netip.AddrPort `json:"server"`
	// Hops are the way there, and the way back, in order.
	Hops    []Hop   `json:"hops"`
	Verdict Verdict `json:"verdict"`
	// Endpoint is the one of which the answer is, Others what other endpoints of the Service would make of it, where that is different.
	Endpoint netip.AddrPort `json:"endpoint,omitzero"`
	Others   []Other        `json:"others,omitempty"`
	// Live is what became of the same request when it was sent.
	Live *Live `json:"live,omitempty"`
}

// Verdict is what becomes of the request, and who says so.
type Verdict struct {
	Result    Result         `json:"result"`
	Policies  []string       `json:"policies,omitempty"`
	Direction plan.Direction `json:"direction,omitempty"`
	// Layer is 4 for what flows decide, 7 for what engines do; 0 where nobody does.
	Layer        int    `json:"layer,omitempty"`
	InspectionID uint16 `json:"inspectionID,omitempty"`
	// Rule is the rule that allows it, or the nearest one; Why a clause for each rule that does not.
	Rule string   `json:"rule,omitempty"`
	Why  []string `json:"why,omitempty"`
	// Reset tells that both ends get a TCP reset.
	Reset bool `json:"reset,omitempty"`
	// Sentence says it all.
	Sentence string `json:"sentence"`
}

// Ways of a Hop.
const (
	Request  = "request"
	Response = "response"
)

// Hop is one place on the way.
type Hop struct {
	Way  string `json:"way"` // request, response
	Node string `json:"node,omitempty"`
	// Where says what it is: client, Service, edge, engine, node, server, agent.
	Where string `json:"where"`
	What  string `json:"what"`
	// Stops tells that the request ends here.
	Stops bool         `json:"stops,omitempty"`
	Steps []trace.Step `json:"steps,omitempty"`
	// Connections are what connection tracking holds afterwards.
	Connections []trace.Tracked `json:"connections,omitempty"`
}

// Other is an endpoint of which something else is true.
type Other struct {
	Endpoint netip.AddrPort `json:"endpoint"`
	Pod      string         `json:"pod,omitempty"`
	Verdict  Verdict        `json:"verdict"`
}

// Live is what became of a request that was sent.
type Live struct {
	// Outcome is what the client saw.
	Outcome string `json:"outcome"`
	// Answered tells whether an answer came.
	Answered bool `json:"answered"`
	// Server is who answered, where that is known; Agrees whether that is what the trace says.
	Server string `json:"server,omitempty"`
	Agrees bool   `json:"agrees"`
}
