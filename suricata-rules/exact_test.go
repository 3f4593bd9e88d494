package suricatarules

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// TestExact has the engine judge thousands of generated requests by generated allow-lists, and compares it, packet by packet,
// with what l7.Allows says. $MEERKAT_SEED repeats a run.
func TestExact(t *testing.T) {
	seed, _ := strconv.ParseUint(os.Getenv("MEERKAT_SEED"), 10, 64)
	if os.Getenv("MEERKAT_SEED") == "" {
		seed = 1
	}
	ruleSets := 400
	if testing.Short() {
		ruleSets = 60
	}
	requests := exact(t, generator{rand.New(rand.NewPCG(seed, 1))}, ruleSets)
	t.Logf("seed %d", seed)
	if requests < 10_000 && !testing.Short() {
		t.Errorf("only %d requests were judged", requests)
	}
}

// exact has that many rule sets tested, and returns the number of requests.
func exact(t *testing.T, g generator, ruleSets int) int {
	t.Helper()
	x := exactness{t: t, g: g, capture: newCapture(t)}
	for len(x.sets) < ruleSets {
		rs := RuleSet{ID: uint16(1 + len(x.sets)*7), Audit: g.oneIn(6), Policies: []string{"shop/storefront"}, Entries: g.entries()}
		if _, err := Compile(rs); err != nil {
			if !strings.Contains(err.Error(), `\b`) { // the one expression here that cannot be translated
				t.Fatal(err)
			}
			continue
		}
		x.sets = append(x.sets, rs)
		for range 24 {
			x.connection(rs)
		}
	}
	files, err := Render(x.sets)
	if err != nil {
		t.Fatal(err)
	}
	x.judge(files, replay(t, files, x.capture.buf.Bytes()))
	t.Logf("%d requests by %d rule sets, %d allowed, %d packets; %d differences", x.requests, len(x.sets), x.allowed, x.capture.packets, x.differences)
	if share := float64(x.allowed) / float64(x.requests); share < 0.2 || share > 0.8 {
		t.Errorf("%.2f of the requests are allowed: the generator does not test both sides", share)
	}
	return x.requests
}

type exactness struct {
	t       *testing.T
	g       generator
	capture *capture
	sets    []RuleSet
	streams []stream
	udp     []datagram

	requests, allowed, differences int
}

// stream is a connection and what was asked on it, in order.
type stream struct {
	rs    RuleSet
	conn  *conn
	asked []asked
	// alone: each request has segments of its own.
	alone bool
}

// datagram is one UDP message.
type datagram struct {
	rs      RuleSet
	packet  int
	names   []string
	allowed bool
}

// connection adds a connection with a few requests.
func (x *exactness) connection(rs RuleSet) {
	g := x.g
	kinds := []int{0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2}
	for _, e := range rs.Entries {
		if e.TLS != nil || e.Protocol == "tls" {
			kinds = append(kinds, 3, 3, 3)
		}
		if e.DNS != nil || e.Protocol == "dns" {
			kinds = append(kinds, 4, 4, 4, 5, 5)
		}
	}
	switch pick(g, kinds) {
	case 0:
		x.other(rs)
	case 1:
		x.http(rs, "1", 80)
	case 2:
		x.http(rs, "2", 80)
	case 3:
		x.tls(rs)
	case 4:
		x.dnsUDP(rs)
	case 5:
		x.dnsTCP(rs)
	}
}

func (x *exactness) http(rs RuleSet, version string, port uint16) {
	g := x.g
	all := make([]asked, 1+g.IntN(4))
	for i := range all {
		all[i].Request = g.request(rs.Entries, version)
		if rs.Audit && version == "1" && !slices.Contains(l7.HTTP1Methods(), all[i].Method) {
			all[i].Method = "GET" // a tunnel, or what the engine takes for a body, is reported once at most
		}
		if version == "1" && !rs.Audit && g.oneIn(30) {
			all[i].malformed = pick(g, malformedLines)
		}
	}
	var data []byte
	if version == "1" {
		data = g.http1(all)
	} else {
		data = g.http2(x.t, all)
	}
	if version == "1" && g.oneIn(2) {
		x.sendEach(rs, port, data, all)
		return
	}
	x.send(rs, port, data, all)
}

func (x *exactness) tls(rs RuleSet) {
	name := pick(x.g, append(askedNames, ""))
	hello := clientHello(x.t, name, pick(x.g, []uint16{0x0303, 0x0304}))
	data := append(slices.Clone(hello), 0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5)
	x.send(rs, 443, data, []asked{{Request: l7.Request{Protocol: "tls", ServerName: name}, judged: len(hello)}})
}

func (x *exactness) dnsTCP(rs RuleSet) {
	var data []byte
	all := make([]asked, 1+x.g.IntN(4))
	for i := range all {
		name := pick(x.g, askedNames)
		data = append(data, overTCP(dnsQuery(name))...)
		all[i] = asked{Request: l7.Request{Protocol: "dns", Name: name}, judged: len(data)}
	}
	x.send(rs, 53, data, all)
}

func (x *exactness) dnsUDP(rs RuleSet) {
	e := x.capture.endpoint(rs.ID, 53)
	for range 1 + x.g.IntN(5) {
		names := some(x.g, askedNames, 1+2*x.g.IntN(2))
		allowed := !slices.ContainsFunc(names, func(name string) bool {
			return !l7.Allows(rs.Entries, l7.Request{Protocol: "dns", Name: name})
		})
		x.udp = append(x.udp, datagram{rs, e.udp(true, dnsQuery(names...)), names, allowed})
	}
}

func (x *exactness) other(rs RuleSet) {
	a, data := asked{Request: l7.Request{Protocol: "ssh"}}, []byte("SSH-2.0-OpenSSH_9.2p1\r\n")
	if x.g.oneIn(2) {
		a, data = asked{}, []byte(strings.Repeat("\x01\x02\x03\x04hello, world\r\n\r\n", 5))
	}
	a.judged = 1
	k := x.capture.connect(rs.ID, 2222)
	k.send(data)
	if a.Protocol == "" {
		k.reply(data)
		k.send(data)
	}
	k.close()
	x.streams = append(x.streams, stream{rs, k, []asked{a}, true})
}

// send writes the bytes in one segment or in several of random size.
func (x *exactness) send(rs RuleSet, port uint16, data []byte, all []asked) {
	k := x.capture.connect(rs.ID, port)
	most := pick(x.g, []int{len(data), len(data), 300, 40, 5})
	if len(data) > 600 {
		most = max(most, 200)
	}
	most = min(most, len(data))
	x.split(k, data, most)
	if most < len(data) {
		k.again(0)
	}
	k.close()
	x.streams = append(x.streams, stream{rs, k, all, all[0].Version != "1"})
}

// split sends the bytes in segments of random size.
func (x *exactness) split(k *conn, data []byte, most int) {
	for len(data) > 0 {
		n := min(len(data), 1+x.g.IntN(most))
		if most >= len(data) {
			n = len(data)
		}
		k.send(data[:n])
		data = data[n:]
	}
}

// sendEach sends each request in segments of its own, once the one before it is answered.
func (x *exactness) sendEach(rs RuleSet, port uint16, data []byte, all []asked) {
	k := x.capture.connect(rs.ID, port)
	from := 0
	for i := range all {
		to := len(data)
		if i+1 < len(all) {
			to = all[i+1].from
		}
		most := pick(x.g, []int{to - from, to - from, 300, 40, 5})
		if to-from > 600 {
			most = max(most, 200)
		}
		x.split(k, data[from:to], most)
		if most < to-from {
			k.again(from) // what a client does when segments get lost
		}
		k.reply([]byte("HTTP/1.1 204 No Content\r\n\r\n"))
		from = to
	}
	k.close()
	x.streams = append(x.streams, stream{rs, k, all, true})
}

// judge compares what the engine did with what it should have done.
func (x *exactness) judge(f Files, events []event) {
	o := outcome{dropped: map[int]string{}, denials: map[int][]Meaning{}, byClient: map[string][]report{}}
	for _, e := range events {
		switch e.Type {
		case "drop":
			o.dropped[e.Packet] = e.Drop.Reason
		case "alert":
			m, ok := f.Index[e.Alert.SID]
			if !ok {
				x.t.Fatalf("an alert of an unknown rule: %+v", e)
			}
			o.denials[e.Packet] = append(o.denials[e.Packet], m)
			for _, client := range []string{e.Source, e.Dest} {
				o.byClient[client] = append(o.byClient[client], report{m, e.Tx, e.Packet})
			}
		}
	}
	for _, s := range x.streams {
		x.judgeStream(s, o)
	}
	for _, d := range x.udp {
		x.count(d.allowed)
		_, lost := o.dropped[d.packet]
		switch reported := len(o.denials[d.packet]) > 0; {
		case d.rs.Audit && (lost || reported == d.allowed) && len(d.rs.Entries) > 0 && mentionsDNS(d.rs):
			x.differ(d.rs, fmt.Sprintf("DNS over UDP %q: allowed %v, dropped %v, reported %v (Audit)", d.names, d.allowed, lost, reported))
		case !d.rs.Audit && lost == d.allowed:
			x.differ(d.rs, fmt.Sprintf("DNS over UDP %q: allowed %v, dropped %v %q", d.names, d.allowed, lost, o.dropped[d.packet]))
		}
	}
}

// outcome is what the engine did.
type outcome struct {
	dropped  map[int]string // packets, and why
	denials  map[int][]Meaning
	byClient map[string][]report
}

// report is one alert.
type report struct {
	Meaning
	tx     *int
	packet int
}

func (r report) String() string {
	tx := -1
	if r.tx != nil {
		tx = *r.tx
	}
	return fmt.Sprintf("packet %d, transaction %d: %s", r.packet, tx, r.Detail)
}

func mentionsDNS(rs RuleSet) bool {
	return slices.ContainsFunc(rs.Entries, func(e l7.Entry) bool { return e.DNS != nil || e.Protocol == "dns" })
}

func (x *exactness) count(allowed bool) {
	x.requests++
	if allowed {
		x.allowed++
	}
}

func (x *exactness) judgeStream(s stream, o outcome) {
	denied := slices.IndexFunc(s.asked, func(a asked) bool { return !a.allowed(s.rs.Entries) })
	for _, a := range s.asked[:max(denied, 0)] {
		x.count(a.allowed(s.rs.Entries))
	}
	if denied < 0 {
		for range s.asked {
			x.count(true)
		}
	} else {
		x.count(false)
	}
	dropped, reported := o.dropped, o.byClient[s.conn.client.String()]
	if s.rs.Audit {
		x.judgeAudit(s, dropped, reported)
		return
	}
	// Of the segment in which the denied request is judged, and of all later ones, nothing arrives. What came before it does;
	// of HTTP/1, though, that is certain only for earlier requests in segments of their own.
	denies, arrives := len(s.conn.sent), len(s.conn.sent)
	if denied >= 0 {
		for _, seg := range s.conn.segments {
			if seg.to >= s.asked[denied].judged {
				denies = seg.from
				break
			}
		}
		switch {
		case slices.ContainsFunc(reported, func(r report) bool { return r.Protocol == "" }):
			arrives = 0 // the protocol as such is not allowed
		case s.asked[0].Version != "1":
			arrives = denies
		case s.alone:
			arrives = s.asked[denied].from
		default:
			arrives = 0
		}
	}
	arrived := s.conn.delivered(dropped)
	unparsed := slices.ContainsFunc(s.conn.segments, func(seg segment) bool { return dropped[seg.packet] == "applayer error" })
	identified := !slices.ContainsFunc(s.asked, func(a asked) bool {
		return a.Protocol != "http" || a.Version == "1" && !slices.Contains(l7.HTTP1Methods(), a.Method)
	})
	switch {
	case slices.Contains(arrived[denies:], true):
		x.differ(s.rs, s.describe(denied, dropped)+" DENIED, BUT PASSED")
	case denied >= 0 && len(reported) == 0 && identified && !unparsed:
		x.differ(s.rs, s.describe(denied, dropped)+" denied, but not reported")
	case slices.Contains(arrived[:arrives], false) && !(denied >= 0 && slices.ContainsFunc(s.conn.segments, func(seg segment) bool {
		// Dropped before the protocol was identified; the client's retransmission comes after the denial.
		return dropped[seg.packet] == "firewall default packet policy"
	})):
		x.differ(s.rs, s.describe(denied, dropped)+fmt.Sprintf(" allowed, but dropped: %v", reported))
	}
}

// judgeAudit checks that nothing was dropped, and that each request that would have been denied was reported.
func (x *exactness) judgeAudit(s stream, dropped map[int]string, reported []report) {
	transactions := map[int]bool{}
	for _, r := range reported {
		if r.tx != nil {
			transactions[*r.tx] = true
		}
	}
	for _, seg := range s.conn.segments {
		if reason, lost := dropped[seg.packet]; lost {
			x.differ(s.rs, s.describe(-1, dropped)+" dropped in Audit: "+reason)
			return
		}
	}
	want := 0
	for _, a := range s.asked {
		if !a.allowed(s.rs.Entries) {
			want++
		}
	}
	got := len(transactions)
	if len(reported) > 0 && reported[0].Protocol == "" { // the protocol is not allowed: reported once
		want, got = min(want, 1), 1
	}
	if got != want {
		x.differ(s.rs, s.describe(-1, dropped)+fmt.Sprintf(" Audit reported %d of %d: %v", got, want, reported))
	}
}

func (x *exactness) differ(rs RuleSet, what string) {
	x.differences++
	if x.differences > 5 {
		x.t.Fail()
		return
	}
	x.t.Errorf("%s\nby rule set %d (audit %v): %s\n%s", what, rs.ID, rs.Audit, describeEntries(rs.Entries), x.keep(rs))
}

// describe shows what was asked, with the denied request marked.
func (s stream) describe(denied int, dropped map[int]string) string {
	var b strings.Builder
	for i, a := range s.asked {
		mark := ""
		if i == denied {
			mark = "-> "
		}
		fmt.Fprintf(&b, "%s%+v malformed %q judged at %d: %v\n", mark, a.Request, a.malformed, a.judged, l7.Explain(s.rs.Entries, a.Request))
	}
	for _, seg := range s.conn.segments[:min(len(s.conn.segments), 60)] {
		fmt.Fprintf(&b, "packet %d, bytes %d-%d: %.300q %s\n", seg.packet, seg.from, seg.to, s.conn.sent[seg.from:seg.to], dropped[seg.packet])
	}
	return b.String()
}

// keep writes the rules to a file that stays after the test, and returns its name.
func (x *exactness) keep(rs RuleSet) string {
	c, _ := Compile(rs)
	var rules strings.Builder
	for _, r := range append(c.Firewall, c.Detect...) {
		fmt.Fprintln(&rules, r.Text)
	}
	name := filepath.Join(os.TempDir(), fmt.Sprintf("meerkat-rule-set-%d.rules", rs.ID))
	write(x.t, name, []byte(rules.String()))
	return "its rules: " + name
}

func describeEntries(entries []l7.Entry) string {
	var b strings.Builder
	for _, e := range entries {
		switch {
		case e.HTTP != nil:
			fmt.Fprintf(&b, "\n  HTTP %+v path %+v", *e.HTTP, e.HTTP.Path)
		case e.GRPC != nil:
			fmt.Fprintf(&b, "\n  gRPC %+v", *e.GRPC)
		case e.TLS != nil:
			fmt.Fprintf(&b, "\n  TLS %+v", *e.TLS)
		case e.DNS != nil:
			fmt.Fprintf(&b, "\n  DNS %+v", *e.DNS)
		default:
			fmt.Fprintf(&b, "\n  %s", e.Protocol)
		}
	}
	return b.String()
}
