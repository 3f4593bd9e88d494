package rollout

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Request is a group of events that are alike.
type Request struct {
	Direction plan.Direction `json:"direction"`
	// Client and Server are workloads ("shop/web (Deployment)"), Pods ("shop/web-0"), or addresses of others.
	Client string `json:"client"`
	Server string `json:"server"`
	// Service is the one that was asked for, if that is known.
	Service string `json:"service,omitempty"`
	Port    string `json:"port"` // "8080/TCP"
	// Request is what was asked. Where Generalised is set, parts of its path in braces stand for what differs: {number}, {uuid}, {hex}.
	Request     string `json:"request"`
	Generalised bool   `json:"generalised,omitempty"`
	// Example is the path of one of them, when Generalised is set.
	Example string    `json:"example,omitempty"`
	Count   int       `json:"count"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	// Why says of the last one why no rule allows it.
	Why string `json:"why"`
}

// key is what the events of a group have in common.
func (r *Request) key() string {
	return strings.Join([]string{string(r.Direction), r.Client, r.Server, r.Service, r.Port, r.Request}, "\x00")
}

func (r *Request) add(other *Request) {
	r.Count += other.Count
	if other.First.Before(r.First) {
		r.First = other.First
	}
	if !other.Last.Before(r.Last) {
		r.Last, r.Why = other.Last, other.Why
	}
}

func (c *Collector) request(v *verdict.Event) *Request {
	r := &Request{
		Direction: v.Direction, Client: c.end(v.Client), Server: c.end(v.Server), Port: fmt.Sprintf("%d/%s", v.Server.Address.Port(), v.Protocol),
		Count: 1, First: v.Time, Last: v.Time, Why: strings.Join(v.Why, "; "),
	}
	if v.Service != nil {
		r.Service = cmp.Or(v.Service.Name, v.Service.Address.String())
	}
	switch {
	case v.HTTP != nil:
		path, _, _ := strings.Cut(v.HTTP.Path, "?")
		if shown := generalise(path); shown != path && !c.exact {
			r.Generalised, r.Example, path = true, path, shown
		}
		r.Request = strings.TrimSpace(v.HTTP.Method + " " + v.HTTP.Host + path)
	case v.TLS != nil:
		r.Request = "TLS " + cmp.Or(v.TLS.ServerName, "without a server name")
	case v.DNS != nil:
		r.Request = "DNS " + strings.Join(v.DNS.Names, ",")
	default:
		r.Request = cmp.Or(v.Application, "a connection of "+v.Protocol)
	}
	return r
}

// end names one end of a connection: addresses of others without the port, which says nothing.
func (c *Collector) end(p verdict.Peer) string {
	switch {
	case p.Name != "":
		return c.workload(p.Name)
	case p.Address == netip.AddrPort{}:
		return "unknown"
	}
	return p.Address.Addr().String()
}

var (
	number = regexp.MustCompile(`^[0-9]+$`)
	uuid   = regexp.MustCompile(`^(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	// hex has a digit: "deadbeef" may be a word.
	hex = regexp.MustCompile(`^(?i)[0-9a-f]*[0-9][0-9a-f]*$`)
)

// generalise puts words in braces for the segments of a path that are likely to be somebody's or something's number.
func generalise(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		switch {
		case number.MatchString(s):
			segments[i] = "{number}"
		case uuid.MatchString(s):
			segments[i] = "{uuid}"
		case len(s) >= 8 && hex.MatchString(s):
			segments[i] = "{hex}"
		}
	}
	return strings.Join(segments, "/")
}
