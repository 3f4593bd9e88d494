package suricatarules

import (
	"bytes"
	"testing"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// TestDatagrams sends datagrams of all kinds on flows that are identified as DNS, and expects each to be judged by itself.
func TestDatagrams(t *testing.T) {
	const named, open = 5, 6
	files, err := Render([]RuleSet{
		{ID: named, Entries: []l7.Entry{{Rule: "names", DNS: &l7.DNS{Names: []string{"*.shop.example"}}}}},
		{ID: open, Entries: []l7.Entry{{Protocol: "dns"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	query := dnsQuery("www.shop.example")
	changed := func(at int, b byte) []byte {
		m := bytes.Clone(query)
		m[at] = b
		return m
	}
	const noEdns = 12
	edns := append(changed(11, 1), 0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0)
	crowded := dnsQuery("evil.example")
	crowded[11] = 250
	failure := append(bytes.Clone(query[:2]), 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0)
	all255 := make([]byte, 0, 512)
	for range 4 {
		all255 = append(append(all255, 'a'), bytes.Repeat([]byte("b"), 58)...)
		all255 = append(all255, '.')
	}
	long := dnsQuery(string(all255) + "shop.example")
	cases := map[string]struct {
		datagram []byte
		toClient bool
		named    bool // passes where names are judged
		open     bool // passes where all of DNS is allowed
	}{
		"query":                                 {datagram: query, named: true, open: true},
		"query with EDNS":                       {datagram: edns, named: true, open: true},
		"long name":                             {datagram: long, named: true, open: true},
		"three questions":                       {datagram: dnsQuery("a.shop.example", "b.shop.example", "c.shop.example"), named: true, open: true},
		"the third denied":                      {datagram: dnsQuery("a.shop.example", "b.shop.example", "evil.example"), open: true},
		"denied query":                          {datagram: dnsQuery("evil.example"), open: true},
		"denied query with a bit set":           {datagram: func() []byte { m := dnsQuery("evil.example"); m[3] = 0x60; return m }(), open: true},
		"denied query that claims to have more": {datagram: crowded},
		"text":                                  {datagram: []byte("POST /exfiltrate HTTP/1.1\r\nHost: evil.example\r\n\r\n")},
		"zeros":                                 {datagram: make([]byte, 600)},
		"three bytes":                           {datagram: []byte{1, 2, 3}},
		"header only":                           {datagram: query[:noEdns]},
		"query cut short":                       {datagram: query[:len(query)-3]},
		"name that points at itself":            {datagram: append(bytes.Clone(query[:12]), 0xc0, 12, 0, 1, 0, 1)},
		"reserved label":                        {datagram: changed(12, 0x83)},
		"more questions than there are":         {datagram: changed(5, 2)},
		"answers that are not there":            {datagram: changed(7, 1)},
		"unknown opcode":                        {datagram: append(changed(2, 0x79)[:len(query)-20], bytes.Repeat([]byte("x"), 40)...)},
		"answer from the client":                {datagram: changed(2, 0x81)},
		"answer":                                {datagram: changed(2, 0x81), toClient: true, named: true, open: true},
		"answer that tells a failure":           {datagram: failure, toClient: true, named: true, open: true},
		"text from the server":                  {datagram: []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), toClient: true},
	}
	c := newCapture(t)
	type sent struct {
		name   string
		packet int
		passes bool
	}
	var all []sent
	for name, d := range cases {
		for rs, passes := range map[uint16]bool{named: d.named, open: d.open} {
			e := c.endpoint(rs, 53)
			if !d.toClient && d.datagram[2]&0x80 == 0 { // the engine takes who answers first for the server, as after its restart
				all = append(all, sent{name + ", first of all", c.endpoint(rs, 53).udp(true, d.datagram), passes})
			}
			all = append(all, sent{name + ": the query before", e.udp(true, query), true})
			e.udp(false, changed(2, 0x81))
			all = append(all, sent{name, e.udp(!d.toClient, d.datagram), passes})
			all = append(all, sent{name + ", again", e.udp(!d.toClient, d.datagram), passes})
			all = append(all, sent{name + ": the query after", e.udp(true, query), true})
		}
	}
	dropped := replayDrops(t, files, c)
	for _, s := range all {
		if reason, lost := dropped[s.packet]; lost == s.passes {
			t.Errorf("%s: passed %t (%s), want %t", s.name, !lost, reason, s.passes)
		}
	}
}
