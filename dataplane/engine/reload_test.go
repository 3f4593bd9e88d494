package engine

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
	suricatarules "github.com/meerkat-dev/meerkat/suricata-rules"
)

// VLAN ids of the tests of reloads, by what their rule sets allow.
const (
	reloadIngress = 5    // /public/ always, and /toggle in odd versions
	reloadEgress  = 2053 // the same
	reloadTLS     = 6    // the same in odd versions, TLS alone in even ones
	reloadGone    = 7    // the same in odd versions, no rules in even ones
	reloadNothing = 8    // the same in odd versions, nothing in even ones
	reloadAudited = 9    // the same in odd versions, everything in even ones, since they only report
)

func reloadEntries(version int) []l7.Entry {
	entries := []l7.Entry{{Rule: "public", HTTP: &l7.HTTP{Methods: []string{"GET"}, Path: &l7.StringMatch{Prefix: "/public/"}}}}
	if version%2 == 1 {
		entries = append(entries, l7.Entry{Rule: "toggle", HTTP: &l7.HTTP{Methods: []string{"GET"}, Path: &l7.StringMatch{Exact: "/toggle"}}})
	}
	return entries
}

// reloadSets are the rule sets of a version; each version differs from the one before, so that each is loaded.
func reloadSets(version int) []suricatarules.RuleSet {
	entries := reloadEntries(version)
	sets := []suricatarules.RuleSet{{ID: reloadIngress, Entries: entries}, {ID: reloadEgress, Entries: entries}}
	if version%2 == 1 {
		for _, id := range []uint16{reloadTLS, reloadGone, reloadNothing, reloadAudited} {
			sets = append(sets, suricatarules.RuleSet{ID: id, Entries: entries})
		}
		return sets
	}
	return append(sets,
		suricatarules.RuleSet{ID: reloadTLS, Entries: []l7.Entry{{Protocol: "tls"}}},
		suricatarules.RuleSet{ID: reloadNothing},
		suricatarules.RuleSet{ID: reloadAudited, Audit: true, Entries: entries})
}

// reloadAllows is what a version allows, by the reference.
func reloadAllows(vlan uint16, version int, r l7.Request) bool {
	switch {
	case version%2 == 1 || vlan == reloadIngress || vlan == reloadEgress:
		return l7.Allows(reloadEntries(version), r)
	default:
		return vlan == reloadAudited
	}
}

// reloading is an engine whose rules change. It begins with version 1.
type reloading struct {
	*rawNet
	e       *Engine
	version int
}

func newReloading(t *testing.T, settings ...string) *reloading {
	t.Helper()
	n := newTestNet(t)
	cfg := n.config(t)
	cfg.Settings = append([]string{suricatarules.EngineYAML()}, settings...)
	rules := compiledRules(t, 1)
	r := &reloading{rawNet: n.raw(t), e: n.start(t, cfg, rules), version: 1}
	return r
}

func compiledRules(t *testing.T, version int) Rules {
	t.Helper()
	files, err := suricatarules.Render(reloadSets(version))
	if err != nil {
		t.Fatal(err)
	}
	return Rules{Firewall: files.Firewall, Detect: files.Detect, Expected: files.Count}
}

// reload has the next version loaded.
func (r *reloading) reload(t *testing.T) {
	t.Helper()
	r.version++
	if _, err := r.e.Load(t.Context(), compiledRules(t, r.version)); err != nil {
		t.Fatal(err)
	}
}

const (
	reloadGood = "GET /public/a HTTP/1.1\r\nHost: shop.example\r\n\r\n"
	reloadBad  = "GET /admin HTTP/1.1\r\nHost: shop.example\r\n\r\n"
)

// reloadPieces are a request's. The engine must know its Host field by the end of the first one, or hold it back until it judges it.
var reloadPieces = [][]string{
	{"GET /public/a HTTP/1.1\r\nHost: shop.example\r\nCookie: a", "=b\r\n\r\n"},
	{"GET /publ", "ic/a HTTP/1.1\r\nHost: shop.example\r\n\r\n"},
	{"GET /public/a HTTP/1.1\r\nHost: shop.example\r\nCookie: a=", "b\r", "\n\r\n"},
}

// TestReloadsLetConnectionsGoOn changes the rules before each request of connections that are open. Nothing of what is allowed is
// dropped, not even once: a client that must send it again may be met by the next change, and the one after it.
func TestReloadsLetConnectionsGoOn(t *testing.T) {
	r := newReloading(t)
	conns := map[string]*rawConn{
		"ingress": r.conn(reloadIngress, nil), "egress": r.conn(reloadEgress, nil), "two pieces": r.conn(reloadIngress, nil),
		"opened before the engine": r.conn(reloadIngress, nil),
	}
	for name, k := range conns {
		if name != "opened before the engine" {
			k.open()
		}
		if !k.segment(0, []byte(reloadGood)) || !k.answer() {
			t.Errorf("%s: the first request or its answer was dropped", name)
		}
	}
	for n := range 4 {
		r.reload(t)
		for name, k := range conns {
			at, pieces := k.next, []string{reloadGood}
			if name == "two pieces" {
				pieces = reloadPieces[n%len(reloadPieces)]
			}
			for i, piece := range pieces {
				if i > 0 {
					r.reload(t)
				}
				if !k.segment(at, []byte(piece)) {
					t.Errorf("%s: %q was dropped in version %d", name, piece, r.version)
				}
				at += len(piece)
			}
			if !k.answer() {
				t.Errorf("%s: an answer was dropped in version %d", name, r.version)
			}
		}
	}
	for name, k := range conns {
		at := k.next
		k.segment(at, []byte(reloadBad))
		k.segment(at, []byte(reloadBad))
		if k.next != at {
			t.Errorf("%s: what is forbidden passed", name)
		}
	}
}

// TestReloadsForgetNothing changes the rules at the moments that are the worst for them. Nothing that no version allows may reach the
// server, by whatever is sent again afterwards.
func TestReloadsForgetNothing(t *testing.T) {
	const (
		noHost  = "GET /admin HTTP/1.0\r\nX: y\r\n"
		tail    = "\r\nGE" // ends it, but the engine does not judge it yet
		partial = reloadBad + "GET /pub"
	)
	type segment struct{ from, to int }
	reload := segment{-1, -1}
	whole := func(s string) segment { return segment{0, len(s)} }
	ended := segment{len(noHost), len(noHost + tail)}
	behind := segment{len(reloadGood + noHost), len(reloadGood + noHost + tail)}
	middle := segment{len(reloadGood), len(reloadGood + noHost)}
	r := newReloading(t)
	for name, c := range map[string]struct {
		vlan   uint16
		stream string // after a first request that all versions allow
		steps  []segment
	}{
		"held, then changed":           {reloadIngress, partial, []segment{whole(partial), reload, whole(partial)}},
		"held, then changed twice":     {reloadIngress, partial, []segment{whole(partial), reload, reload, whole(partial), reload, whole(partial)}},
		"held at egress, then changed": {reloadEgress, partial, []segment{whole(partial), reload, whole(partial)}},
		"held without Host":            {reloadIngress, noHost + tail, []segment{whole(noHost + tail), reload, whole(noHost + tail)}},
		"the end first":                {reloadIngress, noHost + tail, []segment{ended, reload, whole(noHost), whole(noHost)}},
		"the end first, at egress":     {reloadEgress, noHost + tail, []segment{ended, reload, whole(noHost), whole(noHost)}},
		"the end first, two changes":   {reloadIngress, noHost + tail, []segment{ended, reload, reload, whole(noHost), reload, whole(noHost)}},
		"the end first, behind another, with a change": {reloadIngress, reloadGood + noHost + tail,
			[]segment{behind, reload, whole(reloadGood), whole(reloadGood), middle, middle}},
		"the end first, behind another, with two": {reloadIngress, reloadGood + noHost + tail,
			[]segment{behind, reload, whole(reloadGood), whole(reloadGood), reload, middle, reload, middle}},
		"HTTP not allowed before":     {reloadTLS, reloadBad, []segment{reload, whole(reloadBad), reload, whole(reloadBad), whole(reloadBad)}},
		"no rules before":             {reloadGone, reloadBad, []segment{reload, whole(reloadBad), reload, whole(reloadBad), whole(reloadBad)}},
		"nothing allowed before":      {reloadNothing, reloadBad, []segment{reload, whole(reloadBad), reload, whole(reloadBad), whole(reloadBad)}},
		"nothing allowed, two pieces": {reloadNothing, reloadBad, []segment{reload, {0, 9}, {9, len(reloadBad)}, reload, whole(reloadBad), {9, len(reloadBad)}}},
		"two pieces":                  {reloadIngress, reloadBad, []segment{{0, 9}, reload, {9, len(reloadBad)}, {9, len(reloadBad)}}},
		"two pieces that overlap":     {reloadIngress, reloadBad, []segment{{0, 20}, reload, {9, len(reloadBad)}, whole(reloadBad)}},
	} {
		for _, marked := range []bool{false, true} {
			for r.version%2 == 0 {
				r.reload(t)
			}
			k := r.conn(c.vlan, nil)
			k.open()
			if !k.segment(0, []byte(reloadGood)) || !k.answer() {
				t.Errorf("%s: the first request or its answer was dropped", name)
				continue
			}
			if marked { // by another connection of the same Pod, of which something is held
				other := r.conn(c.vlan, nil)
				other.client, other.server = k.client, k.server
				other.port++
				other.open()
				if other.segment(0, []byte(partial)) {
					t.Errorf("%s: a request passed that is not judged yet", name)
				}
			}
			var passed []string
			for _, s := range c.steps {
				if s == reload {
					r.reload(t)
					passed = append(passed, "reload")
					continue
				}
				text := c.stream[s.from:s.to]
				passed = append(passed, fmt.Sprintf("%q: %t", text, k.segment(len(reloadGood)+s.from, []byte(text))))
			}
			for _, got := range readRequests(k.read()) {
				if got.Target == "/admin" {
					t.Errorf("%s, marked is %t: what is forbidden passed: %s", name, marked, passed)
				}
			}
		}
	}
}

// TestReloadsWithoutMemory has no memory for what rules must find again after a change. A request that would have to be held back is denied
// then, and its connection with it, since nobody could hold it back under other rules.
func TestReloadsWithoutMemory(t *testing.T) {
	r := newReloading(t, "host: {memcap: 64kb, hash-size: 1024, prealloc: 0}\n")
	k := r.conn(reloadIngress, nil)
	k.open()
	partial := reloadBad + "GET /pub"
	if !k.segment(0, []byte(reloadGood)) || !k.answer() {
		t.Error("the first request or its answer was dropped")
	}
	for range 3 {
		if k.segment(len(reloadGood), []byte(partial)) {
			t.Errorf("version %d: what is forbidden passed", r.version)
		}
		r.reload(t)
	}
}

// readRequests gives the requests that a server reads: GET with or without a Host and a body of which the length is told.
func readRequests(data []byte) (all []readRequest) {
	at := 0
	for {
		head, _, ok := bytes.Cut(data[at:], []byte("\r\n\r\n"))
		if !ok {
			return all
		}
		r := readRequest{from: at, Request: l7.Request{Protocol: "http", Version: "1"}}
		end := at + len(head) + 4
		for i, line := range strings.Split(string(head), "\r\n") {
			if i == 0 {
				parts := strings.Split(line, " ")
				if len(parts) != 3 {
					return all // what overlaps may make no sense
				}
				r.Method, r.Target = parts[0], parts[1]
				continue
			}
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "Host":
				r.Host = value
			case "Content-Length":
				n, _ := strconv.Atoi(value)
				end += n
			}
		}
		if end > len(data) {
			// The server has the head, and that is what a request is judged by.
			return append(all, r)
		}
		r.to = end
		all = append(all, r)
		at = end
	}
}

// readRequest is a request and its place in the client's stream.
type readRequest struct {
	l7.Request
	from, to int
}
