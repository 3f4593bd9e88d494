package scenario

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// step reads one step: its kind and what goes with any kind.
func (d *decoder) step(n *yaml.Node, path, dir string) Step {
	s := Step{Line: n.Line, path: path, Repeat: 1}
	kinds := fields{
		"probe":      func(n *yaml.Node, path string) { s.Probe = d.probe(n, path) },
		"connection": func(n *yaml.Node, path string) { s.Connection = d.connection(n, path, dir) },
		"raw":        func(n *yaml.Node, path string) { s.Raw = d.raw(n, path) },
		"http2":      func(n *yaml.Node, path string) { s.HTTP2 = d.http2(n, path) },
		"tls":        func(n *yaml.Node, path string) { s.TLS = d.tls(n, path) },
		"dns":        func(n *yaml.Node, path string) { s.DNS = d.dns(n, path) },
		"apply":      func(n *yaml.Node, path string) { s.Apply = d.apply(n, path, dir) },
		"delete":     func(n *yaml.Node, path string) { s.Delete = (*Delete)(d.apply(n, path, dir)) },
		"engine":     func(n *yaml.Node, path string) { s.Engine = d.engine(n, path) },
		"exec":       func(n *yaml.Node, path string) { s.Exec = d.exec(n, path) },
	}
	all := fields{
		"name":      func(n *yaml.Node, path string) { s.Name = d.text(n, path) },
		"repeat":    func(n *yaml.Node, path string) { s.Repeat = d.integer(n, path, 1, 1000) },
		"within":    func(n *yaml.Node, path string) { s.Within = d.duration(n, path) },
		"alerts":    func(n *yaml.Node, path string) { s.Alerts = d.alerts(n, path) },
		"cell":      func(n *yaml.Node, path string) { s.Cell = d.cell(n, path) },
		"endpoints": func(n *yaml.Node, path string) { s.Endpoints = d.integer(n, path, 1, 100) },
	}
	maps.Copy(all, kinds)
	d.object(n, path, all)
	d.exactlyOne(n, path, kinds)
	if s.Repeat > 1 && s.Within > 0 {
		d.fault(n, path, "repeat and within exclude each other: repeat wants every run to do as expected, within only the last")
	}
	if s.Endpoints > 0 && s.Repeat < max(2, s.Endpoints) {
		d.fault(n, join(path, "endpoints"), "goes with repeat, which says how often at most it is tried: write repeat: %d or more",
			max(2, s.Endpoints))
	}
	return s
}

// exactlyOne checks a union.
func (d *decoder) exactlyOne(n *yaml.Node, path string, members fields) {
	if n.Kind != yaml.MappingNode {
		return // told before
	}
	var set []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		if _, ok := members[n.Content[i].Value]; ok {
			set = append(set, n.Content[i].Value)
		}
	}
	switch {
	case len(set) == 0:
		d.fault(n, path, "needs exactly one of %s", fieldNames(members))
	case len(set) > 1:
		d.fault(n, path, "has %s, but must have exactly one of them; make each a step or request of its own", strings.Join(set, " and "))
	}
}

// ends gives the readers of from, to and family.
func (d *decoder) ends(e *Ends) fields {
	return fields{
		"from": func(n *yaml.Node, path string) { e.From = d.place(n, path) },
		"to": func(n *yaml.Node, path string) {
			nth := e.To.Nth
			e.To = d.target(n, path)
			e.To.Nth = nth
		},
		"family": func(n *yaml.Node, path string) {
			e.Family = Family(d.oneOf(n, path, string(IPv4), string(IPv6)))
		},
		"address": func(n *yaml.Node, path string) { e.To.Nth = d.integer(n, path, 1, 1000) },
	}
}

// merge joins readers.
func merge(all ...fields) fields {
	merged := fields{}
	for _, f := range all {
		maps.Copy(merged, f)
	}
	return merged
}

func (d *decoder) cell(n *yaml.Node, path string) (c Cell) {
	d.object(n, path, fields{
		"row":    func(n *yaml.Node, path string) { c.Row = d.nonEmpty(n, path, "name the row") },
		"column": func(n *yaml.Node, path string) { c.Column = d.nonEmpty(n, path, "name the column") },
	}, "row", "column")
	return c
}

func (d *decoder) probe(n *yaml.Node, path string) *Probe {
	p := &Probe{Request: Request{Line: n.Line}}
	d.object(n, path, merge(d.ends(&p.Ends), fields{
		"http": func(n *yaml.Node, path string) { p.HTTP = d.httpRequest(n, path) },
	}, d.expectation(&p.Expectation)), "from", "to", "expect")
	d.checkExpectation(n, path, p.Expectation, false)
	return p
}

func (d *decoder) connection(n *yaml.Node, path, dir string) *Connection {
	c := &Connection{}
	d.object(n, path, merge(d.ends(&c.Ends), fields{
		"pipelined": func(n *yaml.Node, path string) { c.Pipelined = d.boolean(n, path) },
		"requests": func(n *yaml.Node, path string) {
			c.Requests = d.requests(n, path, dir, "http", "raw", "apply", "delete", "engine", "probe")
		},
	}), "from", "to", "requests")
	if c.Pipelined && slices.ContainsFunc(c.Requests, func(r Request) bool { return r.Raw != nil || r.isAction() }) {
		d.fault(n, path, "pipelined writes http requests only; put raw bytes into a raw step, and leave pipelined out for the rest")
	}
	return c
}

func (d *decoder) http2(n *yaml.Node, path string) *HTTP2 {
	h := &HTTP2{}
	d.object(n, path, merge(d.ends(&h.Ends), fields{
		"concurrent": func(n *yaml.Node, path string) { h.Concurrent = d.boolean(n, path) },
		"pipelined":  func(n *yaml.Node, path string) { h.Pipelined = d.boolean(n, path) },
		"upgrade":    func(n *yaml.Node, path string) { h.Upgrade = d.boolean(n, path) },
		"gap":        func(n *yaml.Node, path string) { h.Gap = d.duration(n, path) },
		"requests":   func(n *yaml.Node, path string) { h.Requests = d.requests(n, path, "", "http", "grpc") },
	}), "from", "to", "requests")
	if h.Concurrent && h.Pipelined {
		d.fault(n, path, "concurrent and pipelined exclude each other: concurrent opens each stream in a segment of its own, "+
			"pipelined writes all of them in one")
	}
	if h.Concurrent && h.Gap == 0 {
		h.Gap = defaultStreamGap
	}
	for i, r := range h.Requests {
		if r.HTTP.Version != "" {
			d.fault(n, path, "requests[%d].http.version must not be set: the step speaks HTTP/2", i)
		}
	}
	return h
}

func (d *decoder) tls(n *yaml.Node, path string) *TLS {
	t := &TLS{}
	d.object(n, path, merge(d.ends(&t.Ends), fields{
		"serverName": func(n *yaml.Node, path string) { t.ServerName = d.text(n, path) },
	}, d.expectation(&t.Expectation)), "from", "to", "expect")
	d.checkExpectation(n, path, t.Expectation, false)
	return t
}

func (d *decoder) apply(n *yaml.Node, path, dir string) *Apply {
	a := &Apply{}
	d.object(n, path, fields{
		"file": func(n *yaml.Node, path string) { a.File = d.fileName(n, path, dir) },
	}, "file")
	return a
}

func (d *decoder) engine(n *yaml.Node, path string) *Engine {
	e := &Engine{}
	d.object(n, path, fields{
		"signal": func(n *yaml.Node, path string) { e.Signal = d.oneOf(n, path, "KILL", "STOP", "CONT") },
		"after":  func(n *yaml.Node, path string) { e.After = d.duration(n, path) },
		"of": func(n *yaml.Node, path string) {
			e.Signatures = d.oneOf(n, path, "policies", "signatures") == "signatures"
		},
	}, "signal")
	return e
}

func (d *decoder) exec(n *yaml.Node, path string) *Exec {
	e := &Exec{}
	d.object(n, path, fields{
		"pod": func(n *yaml.Node, path string) {
			p := d.place(n, path)
			if p.Node != "" || p.Outside {
				d.fault(n, path, "must be a Pod, NAMESPACE/NAME")
			}
			e.Pod = p.Pod
		},
		"command": func(n *yaml.Node, path string) {
			d.list(n, path, func(n *yaml.Node, path string) { e.Command = append(e.Command, d.text(n, path)) })
			if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
				d.fault(n, path, "is empty; name a program and its arguments")
			}
		},
		"exitCode": func(n *yaml.Node, path string) { e.ExitCode = d.integer(n, path, 0, 255) },
		"stdout":   func(n *yaml.Node, path string) { e.Stdout = d.text(n, path) },
		"stderr":   func(n *yaml.Node, path string) { e.Stderr = d.text(n, path) },
	}, "pod", "command")
	return e
}
