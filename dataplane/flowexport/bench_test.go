package flowexport

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
)

// benchConnections are how many connections conntrack holds in benchmarks; one in a hundred is of another protocol, which is asked for.
const benchConnections = 100_000

// BenchmarkPoll reads conntrack with 100,000 connections for one protocol, of which there are 1,000, with the filter as early as can be and at the
// end, from the kernel and from Open vSwitch in userspace, and asks for one of a hundred zones:
//
//	go test -run '^$' -bench Poll -benchtime 10x ./dataplane/flowexport
func BenchmarkPoll(b *testing.B) {
	b.Run("kernel", func(b *testing.B) {
		w := newKernelWorld(b)
		benchSource(b, fillKernel(b, w), w.source(), &Kernel{Netns: w.source().Netns, late: true})
	})
	b.Run("userspace", func(b *testing.B) {
		w := newUserspaceWorld(b)
		benchSource(b, fillUserspace(b, w), w.source(), &Userspace{Switch: w.Switch, late: true})
	})
}

func benchSource(b *testing.B, fill func(), early, late Source) {
	count := func(from Source, q Query) (n int) {
		if err := from.Dump(context.Background(), q, func(*Entry) { n++ }); err != nil {
			b.Fatal(err)
		}
		return n
	}
	for _, c := range []struct {
		name  string
		from  Source
		query Query
		least int
	}{
		{"protocol/early", early, Query{Protocols: []uint8{protocolTCP}}, benchConnections / 120},
		{"protocol/late", late, Query{Protocols: []uint8{protocolTCP}}, benchConnections / 120},
		{"zone/early", early, Query{Zones: []uint16{zone1 + 7}}, benchConnections / 200},
		{"zone/late", late, Query{Zones: []uint16{zone1 + 7}}, benchConnections / 200},
		{"all", early, Query{}, benchConnections * 9 / 10},
	} {
		b.Run(c.name, func(b *testing.B) {
			// Entries end after half a minute in userspace, and a busy machine loses packets.
			for count(early, Query{}) < benchConnections*9/10 {
				fill()
			}
			b.ReportAllocs()
			for b.Loop() {
				if n := count(c.from, c.query); n < c.least {
					b.Fatalf("%d connections, not %d", n, c.least)
				}
			}
		})
	}
}

// benchPackets sends a datagram, or opens half a connection, from each of many ports to each of many, by raw packets in a namespace: so many that
// conntrack holds benchConnections.
func benchPackets(b *testing.B, space string, from, to netip.Addr) {
	b.Helper()
	err := ovstest.InNetns(space, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for i := range benchConnections {
			packet := benchPacket(i, from, to)
			if err := unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: to.As4()}); err != nil {
				return err
			}
			if i%64 == 0 {
				time.Sleep(time.Millisecond) // the switch's queue is short
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}

}

// benchPacket is a UDP datagram, or each hundredth time a SYN.
func benchPacket(i int, from, to netip.Addr) []byte {
	protocol, length := byte(protocolUDP), 28
	if i%100 == 0 {
		protocol, length = protocolTCP, 40
	}
	p := make([]byte, length)
	p[0], p[3], p[8], p[9] = 0x45, byte(length), 64, protocol
	f, d := from.As4(), to.As4()
	copy(p[12:], f[:])
	copy(p[16:], d[:])
	source, destination := uint16(1024+i%50000), uint16(2000+i/50000)
	p[20], p[21], p[22], p[23] = byte(source>>8), byte(source), byte(destination>>8), byte(destination)
	if protocol == protocolUDP {
		p[25] = 8
	} else {
		p[32], p[33], p[34] = 0x50, 0x02, 0xff
		sum := uint32(protocolTCP) + 20
		for k := 12; k < 40; k += 2 {
			sum += uint32(p[k])<<8 | uint32(p[k+1])
		}
		for sum > 0xffff {
			sum = sum>>16 + sum&0xffff
		}
		p[36], p[37] = byte(^sum>>8), byte(^sum)
	}
	return p
}

// fillKernel makes conntrack of the node hold connections in a hundred zones, by their source ports.
func fillKernel(b *testing.B, w *kernelWorld) func() {
	b.Helper()
	w.in(w.node, "sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=600", "net.netfilter.nf_conntrack_tcp_timeout_syn_sent=600")
	w.nft(fmt.Sprintf("flush table inet zones\ntable inet zones { chain out { ct zone set jhash th sport mod 100 seed 0x1 offset %d; }\n}", zone1))
	w.in(w.server, "nft", "add table inet drops; add chain inet drops in { type filter hook prerouting priority -500; policy drop; }") // nobody answers
	return func() { benchPackets(b, w.node, clientAddr[0], serverAddr[0]) }
}

// fillUserspace is fillKernel for the switch, with 127 zones.
func fillUserspace(b *testing.B, w *userspaceWorld) func() {
	b.Helper()
	for _, p := range []string{"udp", "tcp"} {
		w.flow(fmt.Sprintf("priority=20,in_port=%d,%s,actions=load:%d->NXM_NX_REG0[],move:NXM_OF_%s_SRC[0..6]->NXM_NX_REG0[0..6],ct(commit,zone=NXM_NX_REG0[0..15])",
			w.client.Ports.Pod, p, zone1-1, strings.ToUpper(p)))
	}
	return func() { benchPackets(b, w.client.Netns, w.client.Address, w.server.Address) }
}

// The agent's memory is bounded, whatever conntrack holds: connections beyond MaxConnections are not followed, and counted.
func TestMemoryIsBounded(t *testing.T) {
	if os.Getenv("MEERKAT_FLOW_MEMORY") == "" && testing.Short() {
		t.Skip("short")
	}
	many := &manyConnections{n: 300_000}
	e := New(Options{Node: "node1", Source: many, MaxConnections: 50_000})
	e.active = []Config{fast("all").withDefaults()}
	e.active[0].Collectors = []Collector{{Name: "c"}}
	e.senders, e.busy = [][]*collector{{newCollector("all", "node1", Collector{Name: "c", BufferBytes: 1 << 20, MessageBytes: 1400}, e.options.Log, &counts{})}}, []bool{false}
	e.encoders = []*encoder{newEncoder("node1", &e.active[0])}
	before := heap()
	e.poll(context.Background())
	used := heap() - before
	s := e.Status()
	t.Logf("%d connections take %d bytes each", s.Connections, used/uint64(s.Connections))
	if s.Connections != 50_000 || s.Unfollowed != 250_000 {
		t.Errorf("%d connections are followed and %d are not, of %d with room for 50,000", s.Connections, s.Unfollowed, many.n)
	}
	if used > 50_000*1500 {
		t.Errorf("50,000 connections take %d bytes", used)
	}
	runtime.KeepAlive(e)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// manyConnections is a conntrack of many made-up connections.
type manyConnections struct{ n int }

func (m *manyConnections) Dump(_ context.Context, _ Query, take func(*Entry)) error {
	for i := range m.n {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1000)
		to := netip.MustParseAddrPort("10.96.0.1:80")
		take(&Entry{Protocol: protocolTCP, Client: from, Sent: to, Server: to, Answered: from, Zone: zone1, TCPState: "ESTABLISHED", Timeout: time.Hour})
	}
	return nil
}
