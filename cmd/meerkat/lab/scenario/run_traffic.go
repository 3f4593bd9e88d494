package scenario

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
)

func (r *runner) probe(ctx context.Context, p *Probe) []*judged {
	return r.connection(ctx, &Connection{Ends: p.Ends, Requests: []Request{p.Request}})
}

// connection sends requests of HTTP/1.x on one connection.
func (r *runner) connection(ctx context.Context, c *Connection) []*judged {
	b, conn := r.begin(ctx, c.Ends, "tcp", c.Requests)
	if conn == nil {
		return b.rows
	}
	defer func() { _ = conn.Close() }()
	if c.Pipelined {
		b.all(ctx, func(ctx context.Context, requests []traffic.HTTPRequest) []traffic.Result {
			return conn.Pipeline(ctx, requests)
		})
		return b.rows
	}
	for i, request := range b.requests {
		if rows := r.action(ctx, request); rows != nil {
			b.rows = append(b.rows, rows...)
			continue
		}
		b.each(ctx, i, func(ctx context.Context) traffic.Result {
			if request.Raw != nil {
				return conn.Exchange(ctx, request.Raw)
			}
			return conn.HTTP(ctx, request.HTTP)
		})
	}
	return b.rows
}

// isAction tells that something other than sending is done in a request's place.
func (r Request) isAction() bool {
	return r.Apply != nil || r.Delete != nil || r.Engine != nil || r.Probe != nil
}

// action does what stands in a request's place; nil when it is a request.
func (r *runner) action(ctx context.Context, request Request) []*judged {
	switch {
	case request.Apply != nil:
		return r.apply(ctx, request.Apply)
	case request.Delete != nil:
		return r.delete(ctx, request.Delete)
	case request.Engine != nil:
		return r.engine(ctx, request.Engine)
	case request.Probe != nil:
		return r.probe(ctx, request.Probe)
	}
	return nil
}

// http2 sends requests as streams of one connection.
func (r *runner) http2(ctx context.Context, h *HTTP2) []*judged {
	b, conn := r.begin(ctx, h.Ends, "tcp", h.Requests)
	if conn == nil {
		return b.rows
	}
	defer func() { _ = conn.Close() }()
	var client *traffic.HTTP2
	if h.Upgrade {
		b.each(ctx, 0, func(ctx context.Context) traffic.Result {
			var result traffic.Result
			client, result = conn.UpgradeHTTP2(ctx, b.requests[0].HTTP)
			return result
		})
		if client == nil {
			for i := 1; i < len(b.requests); i++ {
				b.each(ctx, i, func(context.Context) traffic.Result {
					return traffic.Result{Outcome: traffic.Unsent, Error: "the server did not change to HTTP/2", Local: b.local, Start: b.start}
				})
			}
			return b.rows
		}
	} else {
		client = conn.HTTP2()
	}
	switch {
	case h.Pipelined:
		b.all(ctx, client.Pipeline)
	case h.Concurrent:
		b.all(ctx, func(ctx context.Context, requests []traffic.HTTPRequest) []traffic.Result {
			return client.Concurrent(ctx, requests, h.Gap)
		})
	default:
		for i := len(b.rows); i < len(b.requests); i++ {
			b.each(ctx, i, func(ctx context.Context) traffic.Result { return client.Do(ctx, b.requests[i].HTTP) })
		}
	}
	return b.rows
}

// batch is the requests of one connection.
type batch struct {
	*trial
	requests []Request
	rows     []*judged
}

// begin opens the connection of a batch. Without one, the rows tell what that means for each request.
func (r *runner) begin(ctx context.Context, e Ends, network string, requests []Request) (*batch, *traffic.Conn) {
	t, problem := r.open(ctx, e, network)
	b := &batch{trial: t, requests: slices.Clone(requests)}
	for i := range b.requests {
		b.requests[i].HTTP.Host = hostFor(b.requests[i].HTTP, e.To, t.to)
	}
	if problem != "" {
		for _, request := range b.requests {
			b.rows = append(b.rows, unresolved(e, request.describe(), request.Expect, problem)) // actions too: they are not done
		}
		return b, nil
	}
	conn, result := t.connect(ctx, slices.ContainsFunc(requests, func(r Request) bool { return r.expectsDenial() }))
	if conn == nil {
		for i, request := range b.requests {
			if rows := r.action(ctx, request); rows != nil {
				b.rows = append(b.rows, rows...)
				continue
			}
			b.each(ctx, i, func(context.Context) traffic.Result { return result })
		}
	}
	return b, conn
}

// hostFor is the host that a request names unless it says otherwise: the Service's name, or the address.
func hostFor(r traffic.HTTPRequest, to Target, address netip.AddrPort) string {
	switch {
	case r.Host != "" || r.NoHost:
		return r.Host
	case to.Kind == ServiceTarget:
		return to.Object.Name + "." + to.Object.Namespace
	}
	return address.String()
}

// each sends one request and judges it before the next one begins.
func (b *batch) each(ctx context.Context, i int, send func(context.Context) traffic.Result) {
	bounded, cancel := b.bounded(ctx, b.requests[i].expectsDenial(), b.run.timeouts.Answer)
	result := send(bounded)
	cancel()
	b.judge(ctx, i, result)
}

// all sends what is left of the batch at once, and judges it then.
func (b *batch) all(ctx context.Context, send func(context.Context, []traffic.HTTPRequest) []traffic.Result) {
	first := len(b.rows)
	var requests []traffic.HTTPRequest
	denial := false
	for _, r := range b.requests[first:] {
		requests = append(requests, r.HTTP)
		denial = denial || r.expectsDenial()
	}
	bounded, cancel := b.bounded(ctx, denial, b.run.timeouts.Answer)
	results := send(bounded, requests)
	cancel()
	for i, result := range results {
		b.judge(ctx, first+i, result)
	}
}

func (b *batch) judge(ctx context.Context, i int, result traffic.Result) {
	r := b.requests[i]
	a := &attempt{trial: b.trial, Expectation: r.Expectation, result: result, asked: askedBy(r.HTTP)}
	switch {
	case result.Stream != 0:
		a.reached = streamReached(result.Stream, r.HTTP, b.start)
	case r.Raw != nil && len(result.Sent) == 0:
		a.reached = blobReached(r.Raw)
	default:
		a.reached = headReached(result.Sent, b.start, b.copies(i, result.Sent))
	}
	switch {
	case result.Stream != 0:
		a.request = httpRequest(r.HTTP, "2")
	case r.Raw == nil:
		a.request = httpRequest(r.HTTP, "1")
	}
	if r.Raw != nil {
		a.asked = asked{}
		if parsed := traffic.ParseRequests(r.Raw); len(parsed) > 0 {
			a.asked = asked{method: parsed[0].Method, path: parsed[0].Target}
		}
	}
	row := a.judge(ctx, r.describe())
	if b.ambiguous(i) {
		row.again = nil
	}
	b.rows = append(b.rows, row)
}

// copies counts the requests of the batch with the same head that rightly reach the server: of those before it, where it should
// arrive itself; of all others, where it should not.
func (b *batch) copies(i int, sent []byte) int {
	n := 0
	for j, other := range b.requests {
		counts := j < i || j > i && b.requests[i].expectsDenial()
		if counts && !other.isAction() && !other.expectsDenial() && bytes.Equal(other.wire(b.to), sent) {
			n++
		}
	}
	return n
}

// wire is the head that the request sends.
func (r Request) wire(to netip.AddrPort) []byte {
	if r.Raw != nil {
		return r.Raw
	}
	b := r.HTTP.Bytes(to.String())
	return b[:len(b)-len(r.HTTP.Body)]
}

// ambiguous tells whether a later verdict could as well be about another request of the batch.
func (b *batch) ambiguous(i int) bool {
	if b.requests[i].Expect != Allow {
		return false
	}
	for j, other := range b.requests {
		if j != i && !other.isAction() && other.Expect != Allow && askedBy(other.HTTP) == askedBy(b.requests[i].HTTP) {
			return true
		}
	}
	return false
}

// describe is the request in a line.
func (r Request) describe() string {
	if r.Raw != nil {
		return describeBytes(r.Raw)
	}
	a := askedBy(r.HTTP)
	words := []string{a.method, a.path}
	for _, h := range r.HTTP.Headers {
		if h.Name != "content-type" && h.Name != "te" {
			words = append(words, h.Name+":"+h.Value)
		}
	}
	s := strings.Join(words, " ")
	if r := []rune(s); len(r) > maxRequest {
		return string(r[:maxRequest-1]) + "…"
	}
	return s
}

// maxRequest is how much of a request stands in a table.
const maxRequest = 56

// describeBytes is raw bytes in a line.
func describeBytes(b []byte) string {
	if requests := traffic.ParseRequests(b); len(requests) > 0 {
		s := requests[0].Method + " " + requests[0].Target
		if len(requests) > 1 {
			s += fmt.Sprintf(" and %d more", len(requests)-1)
		}
		return s
	}
	return fmt.Sprintf("%d bytes %q", len(b), b[:min(len(b), 12)])
}
