package observing

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Event is what people want to know of a line of an agent's.
type Event struct {
	Time time.Time
	Node string
	// What is deny, audit, allow or drop of verdicts; alert; lost.
	What           string
	Client, Server verdict.Peer
	// Services are those that were asked for, or, where nobody knows, that the server serves.
	Services     []string
	Method, Path string
	// Request is what was asked, in a line.
	Request string
	// Policies are those that decided; of an alert, By has the inspections.
	Policies, By []string
	Why          string
	// Verdict is the whole of a verdict, nil of other events; Lost is how many events a line with lost stands for.
	Verdict *verdict.Event
	Lost    uint64
	// Line is what the agent wrote.
	Line string
}

// whats are the values of Event.What.
var whats = []string{"deny", "audit", "allow", "drop", "alert", "lost"}

// Parse reads a line. It is false for what is no event: agents log other things, too.
func Parse(line string) (Event, bool) {
	if !strings.HasPrefix(line, `{"kind":"`) {
		return Event{}, false
	}
	var head struct {
		Kind string    `json:"kind"`
		Time time.Time `json:"time"`
		Node string    `json:"node"`
		Lost uint64    `json:"lost"`
	}
	if json.Unmarshal([]byte(line), &head) != nil {
		return Event{}, false
	}
	e := Event{Time: head.Time, Node: head.Node, Line: line}
	switch head.Kind {
	case "verdict":
		var v verdict.Event
		if json.Unmarshal([]byte(line), &v) != nil {
			return Event{}, false
		}
		e.ofVerdict(&v)
		e.Verdict = &v
	case "alert":
		var a alerts.Event
		if json.Unmarshal([]byte(line), &a) != nil {
			return Event{}, false
		}
		e.ofAlert(&a)
	case "lost":
		e.Lost = head.Lost
		e.What, e.Why = "lost", fmt.Sprintf("%d events were not written: too many at a time", head.Lost)
	default:
		return Event{}, false
	}
	return e, true
}

// OfVerdict makes an event of a verdict.
func OfVerdict(v *verdict.Event) Event {
	e := Event{Time: v.Time, Node: v.Node, Verdict: v}
	e.ofVerdict(v)
	return e
}

func (e *Event) ofVerdict(v *verdict.Event) {
	e.What, e.Client, e.Server = string(v.Verdict), v.Client, v.Server
	e.Policies, e.By = v.Policies, slices.Concat(v.Policies, v.Inspections)
	if v.Service != nil {
		e.Services = []string{cmp.Or(v.Service.Name, v.Service.Address.String())}
	}
	switch {
	case v.HTTP != nil:
		e.Method, e.Path = v.HTTP.Method, v.HTTP.Path
		e.Request = strings.TrimSpace(v.HTTP.Method + " " + v.HTTP.Host + v.HTTP.Path)
	case v.TLS != nil:
		e.Request = "TLS " + v.TLS.ServerName
	case v.DNS != nil:
		e.Request = "DNS " + strings.Join(v.DNS.Names, ",")
	default:
		e.Request = v.Protocol
	}
	e.Why = strings.Join(v.Why, "; ")
	switch {
	case v.Signature != nil:
		e.Why = fmt.Sprintf("signature %d: %s", v.Signature.SID, v.Signature.Message)
	case e.Why == "":
		e.Why = cmp.Or(v.Rule, v.Reason)
	}
}

func (e *Event) ofAlert(a *alerts.Event) {
	client, server := a.Source, a.Destination
	if a.ToClient {
		client, server = server, client
	}
	e.What, e.Client, e.Server, e.By = "alert", client.Peer, server.Peer, a.Inspections
	e.Services = server.EndpointOf
	if server.Service != nil {
		e.Services = []string{cmp.Or(server.Service.Name, server.Service.Address.String())}
	}
	e.Request = a.Protocol
	var h struct {
		Method string `json:"http_method"`
		Host   string `json:"hostname"`
		URL    string `json:"url"`
	}
	if json.Unmarshal(a.Detail["http"], &h) == nil && h.URL != "" {
		e.Method, e.Path, e.Request = h.Method, h.URL, strings.TrimSpace(h.Method+" "+h.Host+h.URL)
	}
	e.Why = fmt.Sprintf("signature %d: %s", a.Signature.SID, a.Signature.Message)
	if a.Action == alerts.Dropped {
		e.Why += " (dropped)"
	}
}
