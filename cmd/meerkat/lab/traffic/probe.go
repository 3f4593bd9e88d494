package traffic

import (
	"cmp"
	"context"
	"net/netip"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// ProbeTimeout is how long a Probe's answer is awaited.
const ProbeTimeout = 3 * time.Second

// Probe is one request in the words of allow-lists, to be sent.
type Probe struct {
	// Network is tcp or udp.
	Network string         `json:"network"`
	Server  netip.AddrPort `json:"server"`
	// Request is what is sent; nil for a connection alone.
	Request *l7.Request `json:"request,omitempty"`
	// Host is what an HTTP request names that has no host.
	Host string `json:"host,omitempty"`
}

// Send sends the request over a connection that dial makes, and waits for the answer.
func (p *Probe) Send(ctx context.Context, dial Dialer) Result {
	ctx, cancel := context.WithTimeout(ctx, ProbeTimeout)
	defer cancel()
	conn, result := Connect(ctx, dial, p.Network, p.Server.String())
	if conn == nil {
		return result
	}
	defer conn.Close() //nolint:errcheck // all was said
	switch r := p.Request; {
	case r == nil && p.Network == "tcp":
		result.Outcome = Answered // the connection
		return result
	case r == nil:
		result.Outcome, result.Error = Failed, "a datagram without a request gets no answer: ask a DNS server for a name"
		return result
	case r.Protocol == l7.ProtocolTLS:
		return conn.TLS(ctx, r.ServerName, HTTPRequest{Host: p.Host})
	case r.Protocol == l7.ProtocolDNS:
		return conn.DNS(ctx, r.Name, "")
	}
	request := HTTPRequest{Method: p.Request.Method, Target: p.Request.Target, Host: cmp.Or(p.Request.Host, p.Host)}
	for _, h := range p.Request.Headers {
		request.Headers = append(request.Headers, Header(h))
	}
	if p.Request.Version == "2" {
		return conn.HTTP2().Do(ctx, request)
	}
	return conn.HTTP(ctx, request)
}
