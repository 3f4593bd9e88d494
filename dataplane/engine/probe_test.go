package engine

import (
	"context"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/rawsocket"
)

// bothBack has a probe come back both ways.
func (p *Prober) bothBack(sent probe) {
	for sent.way = range uint8(len(p.ways)) {
		p.back(sent)
	}
}

func (p *Prober) back(sent probe) {
	tagged := sent.frame(ledger.ProbeMAC(0, false), 0)
	p.probeBack(append(tagged[:12:12], tagged[16:]...))
}

// Each thread of an engine must have let a probe through: those of all flows, both ways.
func TestProberWaitsForEachThread(t *testing.T) {
	p := &Prober{cfg: ProbeConfig{}.withDefaults(), flows: probeFlows(2), start: time.Now().Add(-time.Hour)}
	for flow := range uint16(p.flows) {
		if p.judge(false) {
			t.Fatalf("the engine counts as alive after the probes of %d of %d flows", flow, p.flows)
		}
		p.back(probe{at: time.Since(p.start), way: requestsWay, flow: flow})
		p.back(probe{at: time.Since(p.start), way: requestsWay, flow: flow})
	}
	for flow := range uint16(p.flows) {
		if p.judge(false) {
			t.Fatalf("the engine counts as alive after replies' probes of %d of %d flows", flow, p.flows)
		}
		p.back(probe{at: time.Since(p.start), way: repliesWay, flow: flow})
	}
	if !p.judge(false) {
		t.Error("the engine does not count as alive when all probes came back")
	}
	for range 3 { // one way goes on, the other does not
		time.Sleep(p.limit() / 2)
		p.back(probe{at: time.Since(p.start), way: requestsWay})
	}
	if p.judge(true) {
		t.Error("an engine that takes in no replies counts as alive")
	}
}

// An engine that wakes up hands out old probes; those of another prober may come at any time.
func TestProberCountsFreshProbesOfItsOwn(t *testing.T) {
	p := &Prober{cfg: ProbeConfig{}.withDefaults(), flows: 1, nonce: 7, start: time.Now().Add(-time.Hour)}
	back := func(nonce uint64, age time.Duration) {
		p.bothBack(probe{nonce: nonce, at: time.Since(p.start) - age})
	}
	for range 3 {
		back(7, time.Second)
		back(8, time.Millisecond)
		p.probeBack([]byte("short"))
	}
	if p.judge(false) || p.judge(true) {
		t.Error("old and foreign probes count")
	}
	back(7, time.Millisecond)
	if p.judge(false) {
		t.Error("one probe is enough to be healthy again")
	}
	if !p.judge(true) {
		t.Error("one probe is not enough to stay healthy")
	}
	back(7, time.Millisecond)
	if !p.judge(false) || p.RTT() < time.Millisecond {
		t.Errorf("two probes are not enough; RTT %v", p.RTT())
	}
}

// An engine that answers now and then does not count as alive in between; one that has just started does at once.
func TestProberWantsSteadyAnswers(t *testing.T) {
	p := &Prober{cfg: ProbeConfig{}.withDefaults(), flows: 1, start: time.Now().Add(-time.Hour)}
	back := func() { p.bothBack(probe{at: time.Since(p.start)}) }
	back()
	back()
	if !p.judge(false) {
		t.Error("an engine that has just started must wait")
	}
	p.steady.Store(int64(p.cfg.steadier(0, time.Second)))
	if p.judge(false) {
		t.Error("an engine that had stopped answering counts as alive at once")
	}
	for i := range p.ways {
		p.ways[i].run.Add(-int64(time.Second))
	}
	if !p.judge(false) {
		t.Error("an engine that has answered for a second does not count as alive")
	}
	p.Forget()
	if p.judge(false) {
		t.Error("the answers of an engine that is gone count")
	}
	for before, want := range map[time.Duration]time.Duration{0: time.Second, time.Second: 2 * time.Second, 4 * time.Second: 4 * time.Second} {
		if got := p.cfg.steadier(before, time.Second); got != want {
			t.Errorf("after %v of waiting it must be steady for %v, want %v", before, got, want)
		}
		if got := p.cfg.steadier(before, 2*time.Minute); got != time.Second {
			t.Errorf("after two good minutes it must be steady for %v, want 1s", got)
		}
	}
}

// The Prober alone, with a wire in the engine's place.
func TestProberOnAWire(t *testing.T) {
	n := newTestNet(t)
	a, err := rawsocket.Open(n.node, "mk-l7a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := rawsocket.Open(n.node, "mk-l7b")
	if err != nil {
		t.Fatal(err)
	}
	go pump(a, func(f rawsocket.Frame) { _ = b.Write(rawsocket.Tagged(f.Data, f.VLAN, 0)) })
	go pump(b, func(f rawsocket.Frame) { _ = a.Write(rawsocket.Tagged(f.Data, f.VLAN, 0)) })
	changes := make(chan bool, 10)
	p, err := NewProber(n.node, "mk-agent", ProbeConfig{Interval: 20 * time.Millisecond}, func(ok bool) { changes <- ok }, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	next := func(want bool) {
		t.Helper()
		select {
		case got := <-changes:
			if got != want {
				t.Errorf("healthy %v, want %v", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no change to %v", want)
		}
	}
	next(true)
	_ = a.Close()
	next(false)
	if sent, lost := p.Counts(); sent == 0 || lost == 0 || lost > sent {
		t.Errorf("sent %d, lost %d", sent, lost)
	}
	_ = b.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestProbeFrame(t *testing.T) {
	data := probe{nonce: 1, seq: 2, at: time.Second, way: repliesWay, flow: 3}.frame(ledger.ProbeMAC(4, true), 5)
	if got := uint16(data[14])<<8 | uint16(data[15]); got != ledger.ProbeVLAN {
		t.Errorf("VLAN %d", got)
	}
	got, ok := readProbe(append(data[:12:12], data[16:]...))
	if want := (probe{nonce: 1, seq: 2, at: time.Second, way: repliesWay, flow: 3}); got != want || !ok {
		t.Errorf("%+v, want %+v", got, want)
	}
}
