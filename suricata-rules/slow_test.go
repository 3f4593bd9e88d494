package suricatarules

import (
	"bytes"
	"slices"
	"testing"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// TestSlowClients sends allowed requests in pieces, each when the one before has arrived, as a client does that writes line by
// line, or a person who types. No piece may be dropped: the client would send that one again, and never the next.
func TestSlowClients(t *testing.T) {
	const rs = 5
	files, err := Render([]RuleSet{{ID: rs, Entries: []l7.Entry{
		{Rule: "public", HTTP: &l7.HTTP{Methods: []string{"GET"}, Path: &l7.StringMatch{Prefix: "/public/"}}},
		{Rule: "post", HTTP: &l7.HTTP{Methods: []string{"POST"}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	c := newCapture(t)
	conns := map[string]*conn{}
	for name, pieces := range map[string][]string{
		"line by line":             {"GET /public/a HTTP/1.1\r\n", "Host: shop.example\r\n", "\r\n"},
		"Host after another field": {"GET /public/a HTTP/1.1\r\n", "Accept: */*\r\n", "Host: shop.example\r\n", "\r\n"},
		"in the middle of Host":    {"GET /public/a HTTP/1.1\r\nHost: sh", "op.example\r\n\r\n"},
		"in the middle of a field": {"GET /public/a HTTP/1.1\r\nAcc", "ept: */*\r\nHost: shop.example\r\n\r\n"},
		"in the last line end":     {"GET /public/a HTTP/1.1\r\nHost: shop.example\r\n\r", "\n"},
		"between the line ends":    {"GET /public/a HTTP/1.1\r\nHost: shop.example\r\n", "\r\n"},
		"twice":                    {good, "\r\n", done, "GET /public/b HTTP/1.1\r\n", "Host: a\r\n", "\r\n"},
		"after a body":             {post + "Content-Length: 4\r\n\r\n", "body", done, "GET /public/b HTTP/1.1\r\n", "Host: a\r\n", "\r\n"},
		"without Host":             {"GET /public/a HTTP/1.0\r\n", "Accept: */*\r\n", "\r\n"},
	} {
		k := c.connect(rs, 80)
		for _, p := range pieces {
			if p == done {
				k.reply([]byte(done[1:]))
			} else {
				k.send([]byte(p))
			}
		}
		conns[name] = k
	}
	dropped := replayDrops(t, files, c)
	for name, k := range conns {
		for _, s := range k.segments {
			if reason, lost := dropped[s.packet]; lost {
				t.Errorf("%s: %q was dropped: %s", name, k.sent[s.from:s.to], reason)
			}
		}
	}
}

// TestHeldBehindGaps sends the end of a request before its beginning. What completes a request that is not judged must be held,
// whichever packet that is: the engine does not judge these, since the beginning of another line stands behind them.
func TestHeldBehindGaps(t *testing.T) {
	const rs = 5
	files, err := Render([]RuleSet{{ID: rs, Entries: []l7.Entry{
		{Rule: "public", HTTP: &l7.HTTP{Methods: []string{"GET"}, Path: &l7.StringMatch{Prefix: "/public/"}}},
		{Rule: "post", HTTP: &l7.HTTP{Methods: []string{"POST"}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	const forbidden = "GET /admin HTTP/1.0\r\nX: y\r\n"
	c := newCapture(t)
	conns := map[string]*conn{}
	for name, k := range map[string]struct {
		before []string // is sent and answered, in order
		pieces []string // then these, in the order of sent
		sent   []int
	}{
		"the end first":              {[]string{good + "\r\n"}, []string{forbidden, "\r\nGE"}, []int{1, 0}},
		"in three parts":             {[]string{good + "\r\n"}, []string{forbidden[:12], forbidden[12:], "\r\nGE"}, []int{2, 1, 0}},
		"another end between":        {[]string{good + "\r\n"}, []string{forbidden[:12], forbidden[12:], "\r\nGE", "T /\r\n\r\n"}, []int{3, 2, 1, 0}},
		"behind a body":              {[]string{post + "Content-Length: 4\r\n\r\nbody"}, []string{forbidden, "\r\nGE"}, []int{1, 0}},
		"behind a body's empty line": {[]string{post + "Content-Length: 4\r\n\r\n", "\r\n\r\n"}, []string{forbidden, "\r\nGE"}, []int{1, 0}},
		"with the one before":        {[]string{good + "\r\n"}, []string{good, "\r\n" + forbidden, "\r\nGE"}, []int{2, 1, 0}},
		"with the one before, split": {[]string{good + "\r\n"}, []string{good + "\r", "\n" + forbidden + "\r", "\nGE"}, []int{2, 0, 1}},
		"in order, after one":        {[]string{good + "\r\n"}, []string{forbidden, "\r\nGE"}, []int{0, 1}},
		"in one, after one":          {[]string{good + "\r\n"}, []string{good + "\r\n" + forbidden + "\r\nGE"}, []int{0}},
	} {
		conn := c.connect(rs, 80)
		for _, s := range k.before {
			conn.send([]byte(s))
		}
		conn.reply([]byte(done[1:]))
		var starts []int
		for _, p := range k.pieces {
			starts = append(starts, len(conn.sent))
			conn.sent = append(conn.sent, p...)
		}
		for range 2 { // what is lost is sent again
			for _, n := range k.sent {
				conn.segment(starts[n], starts[n]+len(k.pieces[n]))
			}
		}
		conns[name] = conn
	}
	dropped := replayDrops(t, files, c)
	for name, k := range conns {
		end := bytes.LastIndex(k.sent, []byte("\r\nGE")) + 2
		if !slices.Contains(k.delivered(dropped)[:end], false) { // a server reads nothing behind a gap
			t.Errorf("%s: all passed", name)
			for _, s := range k.segments {
				t.Logf("  %q %s", k.sent[s.from:s.to], dropped[s.packet])
			}
		}
	}
}
