package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/rawsocket"
)

// ProbeConfig paces the in-band probes.
type ProbeConfig struct {
	// Interval is the time between two probes; default 100 ms.
	Interval time.Duration
	// Lost is how many intervals may go by without an answer before the engine counts as dead; default 5. A hung or killed
	// engine is noticed within Lost+1 intervals.
	Lost int
	// Good is how many answers in a row it takes to count as alive again; default 2.
	Good int
	// Steady is how long an engine must answer without a pause to count as alive again after it had stopped to (it hung, or was
	// slow); default 1 s. It doubles, up to four times as long, when that happens again within a minute: an engine that answers
	// now and then does not make the flows change all the time. It is not waited for when an engine has just started.
	Steady time.Duration
}

// hurry is how many times more often probes are sent while the engine does not count as alive, so that it does soon after.
const hurry = 5

func (c ProbeConfig) withDefaults() ProbeConfig {
	if c.Interval <= 0 {
		c.Interval = 100 * time.Millisecond
	}
	if c.Lost <= 0 {
		c.Lost = 5
	}
	if c.Good <= 0 {
		c.Good = 2
	}
	if c.Steady <= 0 {
		c.Steady = time.Second
	}
	return c
}

// Prober sends small UDP packets, tagged with ledger.ProbeVLAN, out of the agent's interface every Interval: one the way that requests go
// through the engine, one the way of replies. The bridge leads them into the engine, the engine lets them pass, and the bridge leads them
// back. What comes back tells that the engine takes packets in, judges them, and sends them on: a process that exists tells nothing
// of that.
//
// Each thread of an engine (Suricata 8.0.8) that has just started throws away the packets that it finds first. A connection that is
// older than the engine must not lose its first ones: so an engine counts as alive only when each thread has let a probe through.
//
// The same interface delivers copies of packets that were denied at L4, which the Prober passes on.
type Prober struct {
	cfg      ProbeConfig
	slot     uint8
	flows    int // probes of as many flows, each way, must come back from an engine that has just started
	socket   *rawsocket.Socket
	onHealth func(healthy bool)
	onDenied func(DeniedPacket)

	nonce uint64 // tells this prober's probes from those of one before it
	start time.Time

	seq        uint64 // of the last probe sent; only run uses it
	healthy    atomic.Bool
	since      atomic.Int64 // time since start before which no answer counts: those are another engine's
	steady     atomic.Int64 // how long that row must be; 0 for an engine that has just started
	alive      atomic.Int64 // time since start at which the engine last came to count as alive
	port       atomic.Uint32
	rtt        atomic.Int64
	ways       [2]probeWay
	sent, lost atomic.Uint64
	returned   atomic.Uint64
}

// probeWay is what a Prober knows of one way through the engine.
type probeWay struct {
	run      atomic.Int64 // time since start at which the present row of good answers began
	lastGood atomic.Int64 // time since start at which a good answer came
	good     atomic.Int64 // good answers in a row
	answered [maxProbeFlows]atomic.Bool
}

// The ways through the engine.
const (
	requestsWay = iota
	repliesWay
)

// maxProbeFlows bounds how many flows' probes a start takes. The kernel hands packets to an engine's threads by flow, and does not tell to
// which: probeFlowsEach times as many flows as threads miss one of four once in twenty million starts.
const (
	maxProbeFlows  = 1024
	probeFlowsEach = 16
)

func probeFlows(threads int) int {
	if threads <= 1 {
		return 1
	}
	return min(threads*probeFlowsEach, maxProbeFlows)
}

// NewProber opens the agent's interface. onHealth is called at each change, beginning with the first answer; both callbacks may be
// nil and must not block.
func NewProber(netns, iface string, cfg ProbeConfig, onHealth func(bool), onDenied func(DeniedPacket)) (*Prober, error) {
	return newProber(netns, iface, 0, 1, cfg, onHealth, onDenied)
}

// newProber makes the prober of the engine in a slot, by which the bridge tells its probes from others', with so many threads an interface.
func newProber(netns, iface string, slot uint8, threads int, cfg ProbeConfig, onHealth func(bool), onDenied func(DeniedPacket)) (*Prober, error) {
	socket, err := rawsocket.Open(netns, iface)
	if err != nil {
		return nil, err
	}
	// Packets whose client is asked for go out by the same interface: a flood of them must not take the place of probes.
	if err := socket.OnlyPriority(0); err != nil {
		_ = socket.Close()
		return nil, fmt.Errorf("cannot choose what to read from %s: %w", iface, err)
	}
	var nonce [8]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		_ = socket.Close()
		return nil, err
	}
	p := &Prober{
		cfg: cfg.withDefaults(), slot: slot, flows: probeFlows(threads), socket: socket, onHealth: onHealth, onDenied: onDenied,
		nonce: binary.BigEndian.Uint64(nonce[:]), start: time.Now(),
	}
	return p, nil
}

// Run sends and receives until the context ends; it closes the interface.
func (p *Prober) Run(ctx context.Context) error {
	received := make(chan error, 1)
	go func() { received <- p.receive() }()
	for {
		p.send()
		wait := p.cfg.Interval
		if !p.healthy.Load() {
			wait /= hurry
		}
		select {
		case <-ctx.Done():
			_ = p.socket.Close()
			<-received //nolint:errcheck // it tells that the socket was closed
			return nil
		case err := <-received:
			_ = p.socket.Close()
			return fmt.Errorf("the probes' interface failed: %w", err)
		case <-time.After(wait):
		}
		was := p.healthy.Load()
		now := p.judge(was)
		if now == was || !p.healthy.CompareAndSwap(was, now) {
			continue
		}
		if now {
			p.alive.Store(int64(time.Since(p.start)))
		} else {
			p.steady.Store(int64(p.cfg.steadier(time.Duration(p.steady.Load()), time.Since(p.start)-time.Duration(p.alive.Load()))))
		}
		if p.onHealth != nil {
			p.onHealth(now)
		}
	}
}

// steadier is how long the engine must be steady next time, when it stopped answering after it had been alive for a while.
func (c ProbeConfig) steadier(before, alive time.Duration) time.Duration {
	if alive > time.Minute {
		before = 0
	}
	return min(max(2*before, c.Steady), 4*c.Steady)
}

// Forget makes the Prober start over: what it knows is of an engine that is gone. It tells of no change; the next one that it tells
// is that the engine is alive.
func (p *Prober) Forget() {
	p.since.Store(int64(time.Since(p.start)))
	for i := range p.ways {
		way := &p.ways[i]
		way.good.Store(0)
		for flow := range way.answered {
			way.answered[flow].Store(false)
		}
	}
	p.steady.Store(0)
	p.healthy.Store(false)
}

// judge tells whether the engine is alive, given what it was.
func (p *Prober) judge(was bool) bool {
	now, fresh, good := time.Since(p.start), true, true
	for i := range p.ways {
		way := &p.ways[i]
		if now-time.Duration(way.lastGood.Load()) > p.limit() {
			way.good.Store(0)
			fresh = false
		}
		steady := now-time.Duration(way.run.Load()) >= time.Duration(p.steady.Load())
		good = good && steady && way.good.Load() >= int64(p.cfg.Good) && way.covered(p.flows)
	}
	if !fresh {
		// The engine may have put the probes' flow on its list of those to drop (rules without the probe's rule do that): go
		// on with other flows.
		p.port.Add(uint32(p.flows))
	}
	return fresh && (was || good)
}

// covered tells whether a probe of each flow has come back.
func (w *probeWay) covered(flows int) bool {
	for flow := range w.answered[:flows] {
		if !w.answered[flow].Load() {
			return false
		}
	}
	return true
}

// limit is how old the last good answer, and how late an answer may be. An engine that wakes up hands out all the old probes at
// once, and they say nothing of the time in between.
func (p *Prober) limit() time.Duration { return time.Duration(p.cfg.Lost) * p.cfg.Interval }

// send sends a probe each way; of each flow, while the engine does not count as alive.
func (p *Prober) send() {
	if sent, back := p.sent.Load(), p.returned.Load(); sent > back {
		p.lost.Store(sent - back)
	}
	flows := 1
	if !p.healthy.Load() {
		flows = p.flows
	}
	p.seq++
	for way := range uint8(len(p.ways)) {
		for flow := range flows {
			p.sent.Add(1)
			// An interface that is down loses the probe, as it would lose every packet.
			_ = p.socket.Write(probe{nonce: p.nonce, seq: p.seq, at: time.Since(p.start), way: way, flow: uint16(flow)}.
				frame(ledger.ProbeMAC(p.slot, way == repliesWay), uint16(p.port.Load())))
		}
	}
}

// Inject sends a whole Ethernet frame out of the agent's interface.
func (p *Prober) Inject(frame []byte) error { return p.socket.Write(frame) }

// RTT is the round-trip time of the last probe that came back.
func (p *Prober) RTT() time.Duration { return time.Duration(p.rtt.Load()) }

// Counts tells how many probes were sent and how many of them did not come back.
func (p *Prober) Counts() (sent, lost uint64) { return p.sent.Load(), p.lost.Load() }

func (p *Prober) receive() error {
	buf := make([]byte, 64<<10)
	for {
		f, err := p.socket.Read(buf)
		switch {
		case errors.Is(err, os.ErrClosed):
			return err
		case err != nil:
			// ENETDOWN: the interface went down and may come up again.
			time.Sleep(p.cfg.Interval)
			continue
		}
		if f.VLAN == ledger.ProbeVLAN {
			p.probeBack(f.Data)
			continue
		}
		if d, ok := decodeDenied(f.Data); ok && p.onDenied != nil {
			p.onDenied(d)
		}
	}
}

func (p *Prober) probeBack(data []byte) {
	got, ok := readProbe(data)
	if !ok || got.nonce != p.nonce || int(got.way) >= len(p.ways) || int(got.flow) >= p.flows {
		return
	}
	p.returned.Add(1)
	now := time.Since(p.start)
	rtt := now - got.at
	if rtt > p.limit() || int64(got.at) < p.since.Load() {
		return
	}
	p.rtt.Store(int64(rtt))
	way := &p.ways[got.way]
	way.lastGood.Store(int64(now))
	way.answered[got.flow].Store(true)
	if way.good.Add(1) == 1 {
		way.run.Store(int64(now))
	}
}
