package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
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

// Prober sends a small UDP packet, tagged with ledger.ProbeVLAN, out of the agent's interface every Interval. The bridge leads it
// into the engine, the engine lets it pass, and the bridge leads it back. What comes back tells that the engine takes packets in,
// judges them, and sends them on: a process that exists tells nothing of that.
//
// The same interface delivers copies of packets that were denied at L4, which the Prober passes on.
type Prober struct {
	cfg      ProbeConfig
	socket   *rawSocket
	onHealth func(healthy bool)
	onDenied func(DeniedPacket)

	nonce uint64 // tells this prober's probes from those of one before it
	start time.Time

	seq        uint64 // of the last probe sent; only run uses it
	healthy    atomic.Bool
	since      atomic.Int64 // time since start before which no answer counts: those are another engine's
	run        atomic.Int64 // time since start at which the present row of good answers began
	steady     atomic.Int64 // how long that row must be; 0 for an engine that has just started
	alive      atomic.Int64 // time since start at which the engine last came to count as alive
	port       atomic.Uint32
	lastGood   atomic.Int64 // time since start at which a good answer came
	good       atomic.Int64 // good answers in a row
	rtt        atomic.Int64
	sent, lost atomic.Uint64
	returned   atomic.Uint64
}

// NewProber opens the agent's interface. onHealth is called at each change, beginning with the first answer; both callbacks may be
// nil and must not block.
func NewProber(netns, iface string, cfg ProbeConfig, onHealth func(bool), onDenied func(DeniedPacket)) (*Prober, error) {
	socket, err := openRawSocket(netns, iface)
	if err != nil {
		return nil, err
	}
	var nonce [8]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		_ = socket.Close()
		return nil, err
	}
	p := &Prober{
		cfg: cfg.withDefaults(), socket: socket, onHealth: onHealth, onDenied: onDenied,
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
	p.good.Store(0)
	p.steady.Store(0)
	p.healthy.Store(false)
}

// judge tells whether the engine is alive, given what it was.
func (p *Prober) judge(was bool) bool {
	silent := time.Since(p.start) - time.Duration(p.lastGood.Load())
	if silent > p.limit() {
		p.good.Store(0)
		// The engine may have put the probes' flow on its list of those to drop (rules without the probe's rule do that): go
		// on with another flow.
		p.port.Add(1)
		return false
	}
	return was || p.good.Load() >= int64(p.cfg.Good) && time.Since(p.start)-time.Duration(p.run.Load()) >= time.Duration(p.steady.Load())
}

// limit is how old the last good answer, and how late an answer may be. An engine that wakes up hands out all the old probes at
// once, and they say nothing of the time in between.
func (p *Prober) limit() time.Duration { return time.Duration(p.cfg.Lost) * p.cfg.Interval }

func (p *Prober) send() {
	p.seq++
	p.sent.Add(1)
	sent := p.sent.Load()
	if back := p.returned.Load(); sent > back+1 {
		p.lost.Store(sent - back - 1)
	}
	// An interface that is down loses the probe, as it would lose every packet.
	_ = p.socket.Write(probeFrame(p.nonce, p.seq, time.Since(p.start), uint16(p.port.Load())))
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
	nonce, sentAt, ok := readProbe(data)
	if !ok || nonce != p.nonce {
		return
	}
	p.returned.Add(1)
	now := time.Since(p.start)
	rtt := now - sentAt
	if rtt > p.limit() || int64(sentAt) < p.since.Load() {
		return
	}
	p.rtt.Store(int64(rtt))
	p.lastGood.Store(int64(now))
	if p.good.Add(1) == 1 {
		p.run.Store(int64(now))
	}
}

// A probe's payload: a magic word, the prober's nonce, the sequence number, and when it was sent on the prober's own clock.
const (
	probeMagic   = "mk-probe"
	probePort    = 9 // "discard": no protocol is looked for there
	probePayload = len(probeMagic) + 3*8
	probeHeaders = 14 + 20 + 8
)

// Addresses of probes. The MACs are of the locally administered kind; the IP addresses are for documentation and meet no other
// packet, since nothing but probes has their VLAN.
var (
	probeSrcMAC = [6]byte{0x0a, 0x6b, 0, 0, 0, 1}
	probeDstMAC = [6]byte{0x0a, 0x6b, 0, 0, 0, 2}
	probeSrc    = netip.MustParseAddr("192.0.2.1")
	probeDst    = netip.MustParseAddr("192.0.2.2")
)

// probeFrame is a tagged Ethernet frame with a UDP packet. The source port tells apart flows, from 49152 on.
func probeFrame(nonce, seq uint64, at time.Duration, flow uint16) []byte {
	payload := make([]byte, 0, probePayload)
	payload = append(payload, probeMagic...)
	payload = binary.BigEndian.AppendUint64(payload, nonce)
	payload = binary.BigEndian.AppendUint64(payload, seq)
	payload = binary.BigEndian.AppendUint64(payload, uint64(at))

	ip := &layers.IPv4{
		Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolUDP, Id: uint16(seq),
		SrcIP: probeSrc.AsSlice(), DstIP: probeDst.AsSlice(),
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(49152 + flow%16384), DstPort: probePort}
	_ = udp.SetNetworkLayerForChecksum(ip)
	buf := gopacket.NewSerializeBuffer()
	// Serialising these fixed layers into memory cannot fail.
	_ = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: probeSrcMAC[:], DstMAC: probeDstMAC[:], EthernetType: layers.EthernetTypeIPv4},
		ip, udp, gopacket.Payload(payload))
	return tagged(buf.Bytes(), ledger.ProbeVLAN)
}

// readProbe reads a frame without its tag.
func readProbe(data []byte) (nonce uint64, sentAt time.Duration, ok bool) {
	if len(data) < probeHeaders+probePayload {
		return 0, 0, false
	}
	payload := data[probeHeaders:]
	if string(payload[:len(probeMagic)]) != probeMagic {
		return 0, 0, false
	}
	payload = payload[len(probeMagic):]
	return binary.BigEndian.Uint64(payload), time.Duration(binary.BigEndian.Uint64(payload[16:])), true
}
