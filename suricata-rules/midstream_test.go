package suricatarules

import (
	"slices"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// midstream is a connection whose beginning an engine saw that is gone.
func (c *capture) midstream(vlan, port uint16) *conn {
	return &conn{endpoint: c.endpoint(vlan, port), seq: 1000, answer: 5000}
}

// stale adds the server's last response before everything else, once more.
func (k *conn) stale() {
	data := midstreamResponse
	k.packet(false, layers.TCP{Seq: 5000 - uint32(len(data)), Ack: k.seq, ACK: true, PSH: true}, []byte(data))
}

// probe adds a probe of the server's kernel, whether the client is there, and the client's answer.
func (k *conn) probe() {
	k.packet(false, layers.TCP{Seq: k.answer - 1, Ack: k.seq + uint32(len(k.sent)), ACK: true}, nil)
	k.packet(true, layers.TCP{Seq: k.seq + uint32(len(k.sent)), Ack: k.answer, ACK: true}, nil)
}

const midstreamResponse = "HTTP/1.1 204 No Content\r\n\r\n"

// beginnings are the packets that an engine may see first of a connection that was open before.
var beginnings = map[string]struct {
	first func(*conn)
	// lost tells that the engine (8.0.8) does not follow the server from then on. So flows give it such a first packet twice.
	lost bool
}{
	"a request": {first: func(*conn) {}},
	"a request, then an old response": {first: func(k *conn) {
		k.send([]byte(good + "\r\n"))
		for range 3 {
			k.stale()
		}
		k.reply([]byte(midstreamResponse))
	}},
	"an old response":       {first: func(k *conn) { k.stale() }, lost: true},
	"an old response twice": {first: func(k *conn) { k.stale(); k.stale() }},
	"an acknowledgement":    {first: func(k *conn) { k.packet(true, layers.TCP{Seq: k.seq, Ack: k.answer, ACK: true}, nil) }},
	"a server's acknowledgement": {first: func(k *conn) {
		k.packet(false, layers.TCP{Seq: k.answer, Ack: k.seq, ACK: true}, nil)
	}},
	"a server's acknowledgement, then a response": {first: func(k *conn) {
		k.packet(false, layers.TCP{Seq: 5000 - uint32(len(midstreamResponse)), Ack: k.seq, ACK: true}, nil)
		k.stale()
	}},
	"a server's probe": {first: (*conn).probe},
}

// TestMidstream has the engine take up connections in their middle, as after a restart. Whichever packet comes first, what is
// allowed passes, what is not never passes, and nothing that the server sends is taken for a denial.
func TestMidstream(t *testing.T) {
	const rs = 5
	files, err := Render([]RuleSet{{ID: rs, Entries: []l7.Entry{
		{Rule: "public", HTTP: &l7.HTTP{Methods: []string{"GET"}, Path: &l7.StringMatch{Prefix: "/public/"}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	c := newCapture(t)
	ok, response := []byte(good+"\r\n"), []byte(midstreamResponse)
	type judged struct {
		*conn
		began   int // its first packet
		allowed int // where the part of sent ends that is allowed
	}
	conns := map[string]judged{}
	for name, k := range beginnings {
		j := judged{conn: c.midstream(rs, 80), began: c.packets + 1}
		k.first(j.conn)
		j.send(ok)
		j.reply(response)
		j.allowed = len(j.sent)
		j.send([]byte(bad))
		j.again(j.allowed)
		conns[name] = j
	}
	held := c.midstream(rs, 80)
	held.send([]byte(bad + "GET /pub"))
	held.again(0)

	dropped := replayDrops(t, files, c)
	for name, j := range conns {
		for n := j.began; n < j.segments[len(j.segments)-2].packet; n++ {
			if reason, lost := dropped[n]; lost && !slices.ContainsFunc(j.segments, func(s segment) bool { return s.packet == n }) {
				t.Errorf("%s: the server's packet %d was dropped: %s", name, n-j.began+1, reason)
			}
		}
		arrived := j.delivered(dropped)
		for i, got := range arrived {
			if want := i < j.allowed; got != want {
				t.Errorf("%s: byte %d of %q passed: %t, want %t", name, i, j.sent, got, want)
				break
			}
		}
		if reason, lost := dropped[j.segments[0].packet]; lost {
			t.Errorf("%s: the first request was dropped: %s", name, reason)
		}
	}
	for i, got := range held.delivered(dropped) {
		if got {
			t.Errorf("byte %d of a request that is not judged passed", i)
			break
		}
	}
}

// TestMidstreamGoesOn has connections that were taken up in their middle go on for long: of one whose server it does not follow, the
// engine holds at most 512 requests for unanswered, and then drops it.
func TestMidstreamGoesOn(t *testing.T) {
	const rs = 5
	files, err := Render([]RuleSet{{ID: rs, Entries: []l7.Entry{
		{Rule: "public", HTTP: &l7.HTTP{Methods: []string{"GET"}, Path: &l7.StringMatch{Prefix: "/public/"}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	c := newCapture(t)
	ok, response := []byte(good+"\r\n"), []byte(midstreamResponse)
	conns := map[string]*conn{}
	for name, k := range beginnings {
		j := c.midstream(rs, 80)
		k.first(j)
		for range 700 {
			j.send(ok)
			j.reply(response)
		}
		conns[name] = j
	}
	dropped := replayDrops(t, files, c)
	for name, j := range conns {
		arrived := j.delivered(dropped)
		lost := slices.Index(arrived, false)
		if lost >= 0 != beginnings[name].lost {
			t.Errorf("%s: did not pass is %t, at request %d of %d", name, lost >= 0, lost/len(ok), len(arrived)/len(ok))
		}
	}
}
