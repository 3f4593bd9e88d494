package flowexport

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"
)

// outageTime is how long the collector of the outage tests is down: MEERKAT_FLOW_OUTAGE (5m) says so, or a few seconds.
func outageTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("MEERKAT_FLOW_OUTAGE")
	if text == "" {
		return time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// idleSource holds no connections: the tests that use it are about denials.
type idleSource struct{}

func (idleSource) Dump(context.Context, Query, func(*Entry)) error { return nil }

// A collector that goes away and comes back gets what the buffer held, and what it did not get is what the counters say is lost.
//
// Over TCP the two are equal: what a collector has not acknowledged is sent again, and one that ends in an orderly way reads what it has. Over UDP
// nobody knows what arrives; what a node refuses is sent again, and only what it takes for a socket that closes at that moment is lost unseen: up to
// the records of half a second.
func TestOutage(t *testing.T) {
	for _, transport := range []Transport{TCP, UDP} {
		t.Run(string(transport), func(t *testing.T) {
			t.Parallel()
			outage(t, transport)
		})
	}
}

func outage(t *testing.T, transport Transport) {
	t.Helper()
	const perSecond = 500
	r := newReceiver(t, transport, nil)
	c := fast("all", Collector{Name: "c", Address: r.address, Transport: transport, BufferBytes: 64 << 10})
	c.IncludeDenied, c.EnterpriseNumber = true, 99999
	e, stop := run(t, Options{Node: "node1", Source: idleSource{}}, c)
	// Each denial has a number: its client's address and port.
	next := 0
	deny := func(n int) {
		for range n {
			e.Denied(Denial{
				Time: time.Now(), Protocol: protocolTCP, Client: numbered(next), Server: netip.MustParseAddrPort("10.0.0.3:80"), Reason: "no rule",
			})
			next++
		}
	}
	seen := func() map[string]int { return tuples(r.records()) }
	status := func() CollectorStatus { return e.Status().Collectors[0] }
	until(t, "it is configured", func() bool { return len(e.Status().Collectors) == 1 })
	deny(100)
	until(t, "the first records have arrived", func() bool { return len(seen()) == 100 && status().Sent == 100 })
	r.stop()
	const step = 20 * time.Millisecond
	for end := time.Now().Add(outageTime(t)); time.Now().Before(end); time.Sleep(step) {
		deny(perSecond * int(step) / int(time.Second))
	}
	// More than the buffer holds, whatever the machine's speed.
	until(t, "the buffer is full", func() bool {
		deny(100)
		return status().Lost[LostBufferFull] > 0
	})
	until(t, "the fault is told", func() bool { return status().Fault != "" })
	if waiting := status().Waiting; waiting > 64<<10 {
		t.Errorf("%d bytes wait, and the buffer holds %d", waiting, 64<<10)
	}
	if transport == UDP {
		r.startUDP()
	} else {
		r.start()
	}
	until(t, "the collector has what waited", func() bool { return status().Waiting == 0 && status().Fault == "" })
	deny(100)
	until(t, "all denials are told", func() bool {
		s := status()
		return s.Sent+s.Lost[LostBufferFull] == uint64(next)-e.Status().DenialsLost
	})
	stop()
	s := status()
	lost := int(s.Lost[LostBufferFull] + s.Lost[LostStopped] + s.Lost[LostTooLarge] + e.Status().DenialsLost)
	until(t, "the last ones have arrived", func() bool { return len(r.records()) >= int(s.Sent)-slack(transport, perSecond) })
	missing := next - len(seen())
	t.Logf("%d denials, %d arrived, %d missing, %d counted as lost, %d reconnects, down for %s",
		next, len(seen()), missing, lost, s.Reconnects, outageTime(t))
	if d := missing - lost; d > slack(transport, perSecond) || d < -slack(transport, perSecond) {
		t.Errorf("%d records are missing, and %d are counted as lost: %+v", missing, lost, s)
	}
	if s.Reconnects == 0 || s.Lost[LostBufferFull] == 0 {
		t.Errorf("no reconnect or no loss: %+v", s)
	}
	for tuple, n := range seen() {
		if n > 1 && transport == TCP {
			t.Errorf("%s came %d times", tuple, n)
		}
	}
}

// slack is by how many records counts may differ.
func slack(transport Transport, perSecond int) int {
	if transport == UDP {
		return perSecond / 2
	}
	return 0
}

func numbered(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(n >> 16), byte(n >> 8)}), uint16(1024+n&0xff))
}

func tuples(records []flowRecord) map[string]int {
	all := map[string]int{}
	for _, r := range records {
		all[r.tuple()]++
	}
	return all
}

// A collector that takes nothing from its connection costs its own buffer, and nobody waits for it: not those who deny, and not the others.
func TestCollectorThatHangs(t *testing.T) {
	t.Parallel()
	hung := newHungListener(t)
	r := newReceiver(t, TCP, nil)
	c := fast("all", Collector{Name: "hung", Address: hung, Transport: TCP, BufferBytes: 256 << 10}, Collector{Name: "well", Address: r.address, Transport: TCP})
	c.IncludeDenied = true
	e, _ := run(t, Options{Node: "node1", Source: idleSource{}}, c)
	until(t, "it is configured", func() bool { return len(e.Status().Collectors) == 2 })
	n := 0
	until(t, "the hung collector's buffer is full", func() bool {
		for range 1000 {
			e.Denied(Denial{Time: time.Now(), Protocol: protocolTCP, Client: numbered(n), Server: netip.MustParseAddrPort("10.0.0.3:80")})
			n++
		}
		return e.Status().Collectors[0].Lost[LostBufferFull] > 0
	})
	until(t, "the other has all", func() bool {
		return uint64(len(r.records()))+e.Status().DenialsLost+e.Status().Collectors[1].Lost[LostBufferFull] == uint64(n)
	})
	if s := e.Status().Collectors[0]; s.Waiting > 256<<10 {
		t.Errorf("%d bytes wait for the hung collector: %+v", s.Waiting, s)
	}
	if text := fmt.Sprint(e.Status().Collectors[1].Fault); text != "" {
		t.Errorf("the other has a fault: %s", text)
	}
}
