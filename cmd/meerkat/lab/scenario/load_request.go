package scenario

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
)

// defaultStreamGap lies between the streams of a concurrent step: long enough for an answer, so that a stream before a denied
// one can be told from one after it.
const defaultStreamGap = 50 * time.Millisecond

// requests reads the requests of a connection; kinds are the members that a request may have.
func (d *decoder) requests(n *yaml.Node, path, dir string, kinds ...string) []Request {
	var requests []Request
	d.list(n, path, func(n *yaml.Node, path string) {
		r := Request{Line: n.Line}
		members := fields{
			"http":   func(n *yaml.Node, path string) { r.HTTP = d.httpRequest(n, path) },
			"grpc":   func(n *yaml.Node, path string) { r.HTTP = d.grpcRequest(n, path) },
			"raw":    func(n *yaml.Node, path string) { r.Raw = d.segment(n, path) },
			"apply":  func(n *yaml.Node, path string) { r.Apply = d.apply(n, path, dir) },
			"delete": func(n *yaml.Node, path string) { r.Delete = (*Delete)(d.apply(n, path, dir)) },
			"engine": func(n *yaml.Node, path string) { r.Engine = d.engine(n, path) },
			"probe":  func(n *yaml.Node, path string) { r.Probe = d.probe(n, path) },
		}
		for name := range members {
			if !slices.Contains(kinds, name) {
				delete(members, name)
			}
		}
		d.object(n, path, merge(members, d.expectation(&r.Expectation)))
		d.exactlyOne(n, path, members)
		switch {
		case r.isAction() && (r.Expect != "" || r.byFor != ""):
			d.fault(n, join(path, "expect"), "goes with a request only: apply, delete and engine are done, or fail, and a probe has its own")
		case !r.isAction() && r.Expect == "" && n.Kind == yaml.MappingNode:
			d.fault(n, join(path, "expect"), "is required")
		}
		d.checkExpectation(n, path, r.Expectation, true)
		requests = append(requests, r)
	})
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		d.fault(n, path, "is empty; a connection without a request shows nothing")
	}
	return requests
}

func (d *decoder) httpRequest(n *yaml.Node, path string) traffic.HTTPRequest {
	var r traffic.HTTPRequest
	d.object(n, path, fields{
		"method":  func(n *yaml.Node, path string) { r.Method = d.text(n, path) },
		"path":    func(n *yaml.Node, path string) { r.Target = d.text(n, path) },
		"host":    func(n *yaml.Node, path string) { r.Host = d.text(n, path) },
		"noHost":  func(n *yaml.Node, path string) { r.NoHost = d.boolean(n, path) },
		"headers": func(n *yaml.Node, path string) { r.Headers = d.headers(n, path) },
		"version": func(n *yaml.Node, path string) { r.Version = d.oneOf(n, path, "1.0", "1.1") },
		"body":    func(n *yaml.Node, path string) { r.Body = []byte(d.text(n, path)) },
	})
	if r.NoHost && r.Host != "" {
		d.fault(n, path, "has both host and noHost; keep one")
	}
	return r
}

// grpcRequest makes a call's request: an empty message, POSTed.
func (d *decoder) grpcRequest(n *yaml.Node, path string) traffic.HTTPRequest {
	var service, method string
	r := traffic.HTTPRequest{Method: "POST", Body: make([]byte, 5), Headers: []traffic.Header{
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}}
	d.object(n, path, fields{
		"service": func(n *yaml.Node, path string) {
			service = d.nonEmpty(n, path, "write the full name, such as shop.Cart")
		},
		"method": func(n *yaml.Node, path string) { method = d.nonEmpty(n, path, "write the method's name, such as Add") },
		"host":   func(n *yaml.Node, path string) { r.Host = d.text(n, path) },
	}, "service", "method")
	r.Target = fmt.Sprintf("/%s/%s", service, method)
	return r
}

// headers reads a mapping in its order; a list of values makes several fields of one name.
func (d *decoder) headers(n *yaml.Node, path string) []traffic.Header {
	var headers []traffic.Header
	if n.Kind != yaml.MappingNode {
		d.fault(n, path, "must be an object, such as {X-Token: \"42\"}, but is %s", describe(n))
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, follow(n.Content[i+1])
		at := join(path, name)
		if value.Kind != yaml.SequenceNode {
			headers = append(headers, traffic.Header{Name: name, Value: d.text(value, at)})
			continue
		}
		d.list(value, at, func(n *yaml.Node, path string) {
			headers = append(headers, traffic.Header{Name: name, Value: d.text(n, path)})
		})
	}
	return headers
}

func (d *decoder) raw(n *yaml.Node, path string) *Raw {
	r := &Raw{}
	splitEvery := 0
	d.object(n, path, merge(d.ends(&r.Ends), fields{
		"segments": func(n *yaml.Node, path string) {
			d.list(n, path, func(n *yaml.Node, path string) { r.Segments = append(r.Segments, d.segment(n, path)) })
			if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
				d.fault(n, path, "is empty; write at least one segment")
			}
		},
		"gap":             func(n *yaml.Node, path string) { r.Gap = d.duration(n, path) },
		"splitEvery":      func(n *yaml.Node, path string) { splitEvery = d.integer(n, path, 1, 65535) },
		"allowedRequests": func(n *yaml.Node, path string) { r.AllowedRequests = d.integer(n, path, 0, 1000) },
	}, d.expectation(&r.Expectation)), "from", "to", "segments", "expect")
	d.checkExpectation(n, path, r.Expectation, false)
	if r.AllowedRequests > 0 && r.Expect != Deny {
		d.fault(n, join(path, "allowedRequests"), "goes with expect: deny only")
	}
	if splitEvery > 0 {
		r.Segments = slices.Collect(slices.Chunk(slices.Concat(r.Segments...), splitEvery))
	}
	return r
}

// segment reads a string, {base64: …}, or {text: …, times: …}.
func (d *decoder) segment(n *yaml.Node, path string) []byte {
	if n.Kind == yaml.ScalarNode {
		if n.Tag == "!!binary" {
			return d.base64(n, path)
		}
		return []byte(n.Value)
	}
	var b []byte
	times := 1
	members := fields{
		"base64": func(n *yaml.Node, path string) { b = d.base64(n, path) },
		"text":   func(n *yaml.Node, path string) { b = []byte(d.text(n, path)) },
	}
	d.object(n, path, merge(members, fields{
		"times": func(n *yaml.Node, path string) { times = d.integer(n, path, 1, 100000) },
	}))
	d.exactlyOne(n, path, members)
	if len(b)*times > maxSegment {
		d.fault(n, path, "is %d bytes long; a segment has at most %d", len(b)*times, maxSegment)
		return nil
	}
	return bytes.Repeat(b, times)
}

// maxSegment bounds what a few letters of YAML can ask for.
const maxSegment = 1 << 20

func (d *decoder) base64(n *yaml.Node, path string) []byte {
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(n.Value), ""))
	if err != nil {
		d.fault(n, path, "is not base64: %v", err)
	}
	return b
}

// dns reads one name, or queries.
func (d *decoder) dns(n *yaml.Node, path string) *DNS {
	dns := &DNS{}
	single := DNSQuery{Line: n.Line}
	members := fields{
		"name": func(n *yaml.Node, path string) { single.Name = d.dnsName(n, path) },
		"queries": func(n *yaml.Node, path string) {
			d.list(n, path, func(n *yaml.Node, path string) { dns.Queries = append(dns.Queries, d.query(n, path)) })
		},
	}
	d.object(n, path, merge(d.ends(&dns.Ends), members, fields{
		"tcp":  func(n *yaml.Node, path string) { dns.TCP = d.boolean(n, path) },
		"type": func(n *yaml.Node, path string) { single.Type = d.oneOf(n, path, traffic.DNSTypes()...) },
	}, d.expectation(&single.Expectation)), "from", "to")
	d.exactlyOne(n, path, members)
	switch {
	case single.Name != "":
		if single.Expect == "" {
			d.fault(n, join(path, "expect"), "is required")
		}
		d.checkExpectation(n, path, single.Expectation, false)
		dns.Queries = append(dns.Queries, single)
	case single.Expect != "" || single.By != nil || single.Type != "":
		d.fault(n, path, "with queries, type and what to expect stand in each query")
	}
	return dns
}

func (d *decoder) query(n *yaml.Node, path string) DNSQuery {
	q := DNSQuery{Line: n.Line}
	d.object(n, path, merge(fields{
		"name": func(n *yaml.Node, path string) { q.Name = d.dnsName(n, path) },
		"type": func(n *yaml.Node, path string) { q.Type = d.oneOf(n, path, traffic.DNSTypes()...) },
	}, d.expectation(&q.Expectation)), "name", "expect")
	d.checkExpectation(n, path, q.Expectation, false)
	return q
}

func (d *decoder) dnsName(n *yaml.Node, path string) string {
	name := d.nonEmpty(n, path, "write a host name")
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if name != "" && (label == "" || len(label) > 63) || len(name) > 253 {
			d.fault(n, path, "%q is no host name: labels of 1 to 63 characters with dots between them, 253 in all", name)
			return name
		}
	}
	return name
}
