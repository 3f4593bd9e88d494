package suricatarules

import (
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// TestInvalidSegments sends forbidden requests in segments that make no sense to the engine's TCP, and so are not judged: they must
// not pass.
func TestInvalidSegments(t *testing.T) {
	const rs = 5
	files, err := Render([]RuleSet{{ID: rs, Entries: []l7.Entry{
		{Rule: "public", HTTP: &l7.HTTP{Methods: []string{"GET"}, Path: &l7.StringMatch{Prefix: "/public/"}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	c := newCapture(t)
	packets := map[string]int{}
	for name, tcp := range map[string]layers.TCP{
		"acknowledges what was not sent": {Ack: 200_000, ACK: true, PSH: true},
		"is far beyond the window":       {Seq: 5_000_000, ACK: true, PSH: true},
		"acknowledges very old data":     {Ack: 0x9000_0000, ACK: true, PSH: true},
		"makes the window too small":     {Seq: 10, Ack: 100, Window: 2000, ACK: true, PSH: true},
	} {
		k := c.connect(rs, 80)
		k.send([]byte(good + "\r\n"))
		k.reply([]byte("HTTP/1.1 204 No Content\r\n\r\n"))
		k.packet(true, layers.TCP{Seq: k.seq + uint32(len(k.sent)), Ack: k.answer, ACK: true}, nil)
		tcp.Seq += k.seq + uint32(len(k.sent))
		tcp.Ack += k.answer
		packets[name] = k.packet(true, tcp, []byte(bad))
	}
	dropped := replayDrops(t, files, c)
	for name, packet := range packets {
		if _, lost := dropped[packet]; !lost {
			t.Errorf("a segment that %s passed", name)
		}
	}
}
