package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

var (
	client = netip.MustParseAddrPort("10.0.0.1:40000")
	server = netip.MustParseAddrPort("10.0.0.2:80")
	began  = time.Unix(1_700_000_000, 123456789)
)

// frameOf makes a packet of TCP, with a payload that tells it from others.
func frameOf(t testing.TB, from, to netip.AddrPort, payload string) []byte {
	t.Helper()
	ethernet := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	ip4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	ip6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	segment := &layers.TCP{SrcPort: layers.TCPPort(from.Port()), DstPort: layers.TCPPort(to.Port()), ACK: true, Window: 100}
	var below gopacket.NetworkLayer = ip4
	stack := []gopacket.SerializableLayer{ethernet, ip4, segment, gopacket.Payload(payload)}
	if from.Addr().Is6() {
		ethernet.EthernetType, below, stack[1] = layers.EthernetTypeIPv6, ip6, ip6
	}
	if err := segment.SetNetworkLayerForChecksum(below); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// test is a keeper that is given packets by hand: a second after each other.
type test struct {
	*Keeper
	t   *testing.T
	dir string
	at  time.Time
}

func newTest(t *testing.T, maxBytes map[string]int64, taps ...Tap) *test {
	t.Helper()
	k := &test{t: t, dir: t.TempDir(), at: began}
	k.Keeper = New(Options{Dir: k.dir, Recent: 1 << 20, Log: testr.New(t)})
	k.follow(maxBytes, taps...)
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func (k *test) follow(maxBytes map[string]int64, taps ...Tap) {
	k.t.Helper()
	if err := k.Follow(Wanted{MaxBytes: maxBytes, Taps: taps}); err != nil {
		k.t.Fatal(err)
	}
}

func (k *test) packet(tap uint16, from, to netip.AddrPort, payload string) {
	k.t.Helper()
	k.at = k.at.Add(time.Second)
	k.take(packet{at: k.at, tap: tap, frame: frameOf(k.t, from, to, payload)})
}

func (k *test) alert(tap uint16, inspections ...string) {
	direction := k.taps[tap].Direction
	k.Alert(tap, inspections, Connection{
		Direction: direction, Protocol: "TCP", Source: End{client, "shop/client"}, Destination: End{server, "shop/web"},
	})
}

// read gives the payloads of what is kept.
func (k *test) read(inspection string, q Query) []string {
	k.t.Helper()
	k.mu.Lock()
	for _, s := range k.stores {
		_ = s.flush()
	}
	k.mu.Unlock()
	var out bytes.Buffer
	sum, err := Read(context.Background(), Dir(k.dir, inspection), q, &out)
	if err != nil {
		k.t.Fatal(err)
	}
	got := payloads(k.t, &out)
	if sum.Packets != len(got) {
		k.t.Errorf("%d packets are told of, and %d written", sum.Packets, len(got))
	}
	return got
}

// payloads reads a pcap file with another's code, and holds its times to be in order.
func payloads(t *testing.T, in io.Reader) (all []string) {
	t.Helper()
	r, err := pcapgo.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	var last time.Time
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if info.Timestamp.Before(last) {
			t.Errorf("%v comes after %v", info.Timestamp, last)
		}
		last = info.Timestamp
		p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)
		if p.ErrorLayer() != nil || p.Layer(layers.LayerTypeDot1Q) != nil {
			t.Fatalf("a packet is damaged, or has a tag: %v", p)
		}
		all = append(all, string(p.ApplicationLayer().Payload()))
	}
}

func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// TestWholeConnection keeps a connection from before its alert until after, both ways, and no other.
func TestWholeConnection(t *testing.T) {
	k := newTest(t, map[string]int64{"shop/a": 1 << 20, "shop/b": 1 << 20},
		Tap{Number: 5, Direction: "Ingress", Inspections: []string{"shop/a", "shop/b", "shop/c"}}, Tap{Number: 6, Direction: "Egress", Inspections: []string{"shop/b"}})
	other := netip.MustParseAddrPort("10.0.0.1:40001")
	k.packet(5, client, server, "1")
	k.packet(5, other, server, "other")
	k.packet(5, server, client, "2")
	k.packet(6, client, server, "another tap")
	k.packet(7, client, server, "nobody's")
	k.alert(5, "shop/a", "shop/c")
	k.packet(5, client, server, "3")
	k.packet(5, server, other, "other")
	k.alert(5, "shop/a")
	k.packet(5, server, client, "4")
	equal(t, "the inspection that alerted", k.read("shop/a", Query{}), "1", "2", "3", "4")
	equal(t, "one of the same engine that did not", k.read("shop/b", Query{}))
	equal(t, "one that keeps nothing", k.read("shop/c", Query{}))
	k.alert(5, "shop/b")
	equal(t, "it alerts later", k.read("shop/b", Query{}), "1", "2", "3", "4")
	equal(t, "since", k.read("shop/a", Query{Since: k.at.Add(-2 * time.Second)}), "3", "4")
	equal(t, "of a Pod", k.read("shop/a", Query{Pods: []string{"shop/web"}}), "1", "2", "3", "4")
	equal(t, "of another Pod", k.read("shop/a", Query{Pods: []string{"shop/other"}}))
}

// TestBothEnds has a connection between two Pods of one inspection: each packet is there once, but for one that was sent twice.
func TestBothEnds(t *testing.T) {
	k := newTest(t, map[string]int64{"shop/a": 1 << 20},
		Tap{Number: 5, Direction: "Ingress", Inspections: []string{"shop/a"}}, Tap{Number: 6, Direction: "Egress", Inspections: []string{"shop/a"}})
	both := func(times int, payload string) {
		for range times {
			for _, tap := range []uint16{6, 5} {
				k.at = k.at.Add(-time.Second + time.Millisecond)
				k.packet(tap, client, server, payload)
			}
		}
	}
	both(1, "once")
	k.alert(5, "shop/a")
	k.alert(6, "shop/a")
	both(2, "sent again")
	k.packet(5, client, server, "at one end")
	equal(t, "both ends", k.read("shop/a", Query{}), "once", "sent again", "sent again", "at one end")
}

// TestBounded keeps no more than it may, the newest of it, and of one connection no more than its share.
func TestBounded(t *testing.T) {
	const most = 1 << 20
	k := newTest(t, map[string]int64{"shop/a": most}, Tap{Number: 5, Direction: "Ingress", Inspections: []string{"shop/a"}})
	payload := strings.Repeat("x", 1000)
	for port := range uint16(50) {
		from := netip.AddrPortFrom(client.Addr(), 1000+port)
		k.Alert(5, []string{"shop/a"}, Connection{Direction: "Ingress", Protocol: "TCP", Source: End{Address: from}, Destination: End{Address: server}})
		for range 100 {
			k.packet(5, from, server, fmt.Sprint(port, payload))
		}
	}
	got := k.read("shop/a", Query{})
	if len(got) < 700 || !strings.HasPrefix(got[len(got)-1], "49x") || strings.HasPrefix(got[0], "0x") {
		t.Errorf("%d packets are kept, from %.3q to %.3q", len(got), got[0], got[len(got)-1])
	}
	size := int64(0)
	files, _ := filepath.Glob(filepath.Join(Dir(k.dir, "shop/a"), "*"))
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, err, info.Mode())
		}
		size += info.Size()
	}
	if size > most || size < most*3/4 {
		t.Errorf("%d bytes are in %d files, of at most %d", size, len(files), most)
	}
	k.alert(5, "shop/a")
	for range 1000 {
		k.packet(5, client, server, payload)
	}
	one := 0
	for _, p := range k.read("shop/a", Query{}) {
		if p == payload {
			one++
		}
	}
	if one > most/4/1000 || one < most/4/1000*8/10 {
		t.Errorf("one connection has %d packets of 1 KB", one)
	}
}

// TestGoesAndComes starts the keeper anew, and has it follow others: what is kept stays as long as it is wanted.
func TestGoesAndComes(t *testing.T) {
	tap := Tap{Number: 5, Direction: "Ingress", Inspections: []string{"shop/a", "shop/b"}}
	k := newTest(t, map[string]int64{"shop/a": 1 << 20, "shop/b": 1 << 20}, tap)
	k.alert(5, "shop/a", "shop/b")
	k.packet(5, client, server, "1")
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	k.Keeper = New(Options{Dir: k.dir, Log: testr.New(t)})
	k.follow(map[string]int64{"shop/a": 1 << 20, "shop/b": 1 << 20}, tap)
	k.packet(5, client, server, "2")
	k.alert(5, "shop/a")
	k.follow(map[string]int64{"shop/a": 1 << 20}) // no Pod is here any more
	equal(t, "after a restart", k.read("shop/a", Query{}), "1", "2")
	if _, err := os.Stat(Dir(k.dir, "shop/b")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is not wanted any more is there: %v", err)
	}
	k.packet(5, client, server, "3")
	k.follow(nil)
	if left, err := os.ReadDir(k.dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
}

// TestDamaged cuts a file in the middle of a packet, as one is that is being written: what is before is read.
func TestDamaged(t *testing.T) {
	k := newTest(t, map[string]int64{"shop/a": 1 << 20}, Tap{Number: 5, Direction: "Ingress", Inspections: []string{"shop/a"}})
	k.alert(5, "shop/a")
	k.packet(5, client, server, "1")
	k.packet(5, client, server, "2")
	k.read("shop/a", Query{})
	files, _ := filepath.Glob(filepath.Join(Dir(k.dir, "shop/a"), "*.pcap"))
	if err := os.Truncate(files[0], 120); err != nil {
		t.Fatal(err)
	}
	equal(t, "cut off", k.read("shop/a", Query{}), "1")
	if err := os.WriteFile(files[0], bytes.Repeat([]byte("x"), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(t.Context(), Dir(k.dir, "shop/a"), Query{}, io.Discard); err == nil || !strings.Contains(err.Error(), files[0]) {
		t.Errorf("what is no file of packets gives %v", err)
	}
}

// TestMerge merges what two nodes have, and has tcpdump read it.
func TestMerge(t *testing.T) {
	var files []string
	for i, sent := range []string{"acd", "bcd"} {
		k := newTest(t, map[string]int64{"shop/a": 1 << 20}, Tap{Number: 5, Direction: "Ingress", Inspections: []string{"shop/a"}})
		k.alert(5, "shop/a")
		for n, payload := range strings.Split(sent, "") {
			k.at = began.Add(time.Duration(2*n-1)*time.Second + time.Duration(i)*time.Millisecond)
			k.packet(5, client, server, payload)
		}
		k.read("shop/a", Query{})
		name := filepath.Join(k.dir, "merged")
		file, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Read(t.Context(), Dir(k.dir, "shop/a"), Query{}, file); err != nil {
			t.Fatal(err)
		}
		_ = file.Close()
		files = append(files, name)
	}
	var out bytes.Buffer
	if _, err := Merge(t.Context(), files, &out); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tcpdump", "-nn", "-tt", "-r", "-")
	cmd.Stdin = bytes.NewReader(out.Bytes())
	said, err := cmd.Output()
	if err != nil || strings.Count(string(said), "10.0.0.1.40000 > 10.0.0.2.80") != 4 {
		t.Errorf("tcpdump says %v:\n%s", err, said)
	}
	equal(t, "two nodes", payloads(t, &out), "a", "b", "c", "d")
}

// TestParse finds flows of IPv4 and IPv6, of fragments, and none where there is none.
func TestParse(t *testing.T) {
	six := netip.MustParseAddrPort("[2001:db8::1]:1")
	other := netip.MustParseAddrPort("[2001:db8::2]:2")
	want := flowOf(six, other, tcp)
	for _, f := range [][]byte{frameOf(t, six, other, "x"), frameOf(t, other, six, "x")} {
		if got, ok := parse(f); !ok || got != want {
			t.Errorf("got %+v, %v", got, ok)
		}
	}
	f := frameOf(t, client, server, "x")
	f[20], f[21] = 0, 3 // a later fragment
	if got, ok := parse(f); !ok || got != flowOf(client, server, tcp).addresses() || !got.later {
		t.Errorf("a fragment: %+v, %v", got, ok)
	}
	for n := range f {
		parse(f[:n])
	}
}

func FuzzParse(f *testing.F) {
	f.Add(frameOf(f, client, server, "x"))
	f.Add(frameOf(f, netip.MustParseAddrPort("[2001:db8::1]:1"), netip.MustParseAddrPort("[2001:db8::2]:2"), "x"))
	f.Fuzz(func(_ *testing.T, frame []byte) {
		parse(frame)
		bare, _ := untag(frame)
		newTwice().again(0, 0, bare)
	})
}
