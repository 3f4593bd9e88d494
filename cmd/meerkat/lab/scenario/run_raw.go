package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// solitary is a step that is one attempt on a connection of its own.
type solitary struct {
	Ends
	Expectation
	request string
	// answer is how long an answer may take.
	answer time.Duration
	send   func(context.Context, *traffic.Conn) traffic.Result
	asked  asked
	said   *l7.Request // in the words of allow-lists
	// reached makes attempt.reached; since is when the connection began.
	reached func(since time.Time) func([]traffic.Record) arrival
}

func (r *runner) solitary(ctx context.Context, s solitary) []*judged {
	t, problem := r.open(ctx, s.Ends, "tcp")
	if problem != "" {
		return []*judged{unresolved(s.Ends, s.request, s.Expect, problem)}
	}
	conn, result := t.connect(ctx, s.expectsDenial())
	if conn != nil {
		defer func() { _ = conn.Close() }()
		bounded, cancel := t.bounded(ctx, s.expectsDenial(), s.answer)
		result = s.send(bounded, conn)
		cancel()
	}
	a := &attempt{trial: t, Expectation: s.Expectation, result: result, asked: s.asked, reached: s.reached(t.start), request: s.said}
	return []*judged{a.judge(ctx, s.request)}
}

// unresolved is the row of a request whose target is not there.
func unresolved(e Ends, request string, expect Expect, problem string) *judged {
	return &judged{Row: Row{
		From: e.From.String(), To: e.To.String(), Request: request, Expected: string(expect), Got: "not tried", Problem: problem,
	}}
}

func (r *runner) raw(ctx context.Context, raw *Raw) []*judged {
	sent := slices.Concat(raw.Segments...)
	s := solitary{
		Ends: raw.Ends, Expectation: raw.Expectation, request: describeBytes(sent),
		// Writing takes its time, and each gap some more than it says.
		answer: r.timeouts.Answer + 2*raw.Gap*time.Duration(len(raw.Segments)),
		send: func(ctx context.Context, conn *traffic.Conn) traffic.Result {
			return conn.Raw(ctx, raw.Segments, raw.Gap)
		},
		reached: func(since time.Time) func([]traffic.Record) arrival {
			return bytesReached(sent, since, raw.AllowedRequests)
		},
	}
	if n := len(raw.Segments); n > 1 {
		s.request += fmt.Sprintf(" in %d segments", n)
	}
	if parsed := traffic.ParseRequests(sent); len(parsed) == 1 {
		s.asked = asked{method: parsed[0].Method, path: parsed[0].Target}
	}
	return r.solitary(ctx, s)
}

func (r *runner) tls(ctx context.Context, t *TLS) []*judged {
	s := solitary{
		Ends: t.Ends, Expectation: t.Expectation, request: "TLS without server name", answer: r.timeouts.Answer,
		send: func(ctx context.Context, conn *traffic.Conn) traffic.Result {
			return conn.TLS(ctx, t.ServerName, traffic.HTTPRequest{})
		},
		asked: asked{serverName: t.ServerName},
		said:  &l7.Request{Protocol: l7.ProtocolTLS, ServerName: t.ServerName},
		reached: func(since time.Time) func([]traffic.Record) arrival {
			return helloReached(t.ServerName, since)
		},
	}
	if t.ServerName != "" {
		s.request = "TLS " + t.ServerName
	}
	return r.solitary(ctx, s)
}

// dns asks its questions from one socket.
func (r *runner) dns(ctx context.Context, d *DNS) []*judged {
	network := "udp"
	if d.TCP {
		network = "tcp"
	}
	var rows []*judged
	t, problem := r.open(ctx, d.Ends, network)
	if problem != "" {
		for _, q := range d.Queries {
			rows = append(rows, unresolved(d.Ends, q.describe(), q.Expect, problem))
		}
		return rows
	}
	conn, failed := t.connect(ctx, slices.ContainsFunc(d.Queries, func(q DNSQuery) bool { return q.expectsDenial() }))
	if conn != nil {
		defer func() { _ = conn.Close() }()
	}
	for _, q := range d.Queries {
		result := failed
		if conn != nil {
			bounded, cancel := t.bounded(ctx, q.expectsDenial(), r.timeouts.Answer)
			result = conn.DNS(bounded, q.Name, q.Type)
			cancel()
		}
		a := &attempt{
			trial: t, Expectation: q.Expectation, result: result, asked: asked{queryName: q.Name},
			request: &l7.Request{Protocol: l7.ProtocolDNS, Name: strings.ToLower(strings.TrimSuffix(q.Name, "."))},
			reached: queryReached(q.Name, result.Start),
		}
		rows = append(rows, a.judge(ctx, q.describe()))
	}
	return rows
}

func (q DNSQuery) describe() string {
	if q.Type == "" {
		return "A " + q.Name
	}
	return q.Type + " " + q.Name
}
