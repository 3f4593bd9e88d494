package replay

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

func datagram(t *testing.T, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, parts...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf.Bytes())
}

// TestReadSegment reads whole packets, parts of packets, and what has no ports.
func TestReadSegment(t *testing.T) {
	a, b := net.IPv4(10, 0, 0, 1).To4(), net.IPv4(10, 0, 0, 2).To4()
	a6, b6 := net.ParseIP("2001:db8::1"), net.ParseIP("2001:db8::2")
	udp := &layers.UDP{SrcPort: 4000, DstPort: 53, Length: 40}
	for name, test := range map[string]struct {
		data     []byte
		kind     layers.EthernetType
		src, dst string
		protocol plan.Protocol
		ok       bool
		opens    bool
		first    bool
		part     bool
	}{
		"syn": {
			datagram(t, &layers.IPv4{Version: 4, TTL: 9, Protocol: layers.IPProtocolTCP, SrcIP: a, DstIP: b}, &layers.TCP{SrcPort: 4000, DstPort: 80, SYN: true}),
			layers.EthernetTypeIPv4, "10.0.0.1:4000", "10.0.0.2:80", plan.TCP, true, true, true, false,
		},
		"six": {
			datagram(t, &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolUDP, SrcIP: a6, DstIP: b6}, udp),
			layers.EthernetTypeIPv6, "[2001:db8::1]:4000", "[2001:db8::2]:53", plan.UDP, true, false, true, false,
		},
		"first part": {
			datagram(t, &layers.IPv4{Version: 4, TTL: 9, Id: 7, Flags: layers.IPv4MoreFragments, Protocol: layers.IPProtocolUDP, SrcIP: a, DstIP: b}, udp, gopacket.Payload("abcdefgh")),
			layers.EthernetTypeIPv4, "10.0.0.1:4000", "10.0.0.2:53", plan.UDP, true, false, true, true,
		},
		"later part": {
			datagram(t, &layers.IPv4{Version: 4, TTL: 9, Id: 7, FragOffset: 2, Protocol: layers.IPProtocolUDP, SrcIP: a, DstIP: b}, gopacket.Payload("abcdefgh")),
			layers.EthernetTypeIPv4, "10.0.0.1:0", "10.0.0.2:0", plan.UDP, true, false, false, true,
		},
		"ping": {
			datagram(t, &layers.IPv4{Version: 4, TTL: 9, Protocol: layers.IPProtocolICMPv4, SrcIP: a, DstIP: b}, &layers.ICMPv4{TypeCode: 8 << 8}),
			layers.EthernetTypeIPv4, "10.0.0.1:0", "10.0.0.2:0", "", false, false, true, false,
		},
	} {
		s, ok := readSegment(test.data, test.kind)
		if ok != test.ok || s.src != netip.MustParseAddrPort(test.src) || s.dst != netip.MustParseAddrPort(test.dst) || s.protocol != test.protocol ||
			s.opens != test.opens || s.first != test.first || (s.fragment != 0) != test.part {
			t.Errorf("%s: got %+v, %v", name, s, ok)
		}
	}
}

// TestConnectionsForget holds no more than two generations, and remembers what is used.
func TestConnectionsForget(t *testing.T) {
	c := connections[int]{most: 10}
	key := func(i int) tuple {
		return tuple{plan.TCP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), uint16(i)), netip.MustParseAddrPort("10.0.0.2:80")}
	}
	for i := range 100 {
		c.put(key(i), &i)
		if len(c.now)+len(c.old) > 20 {
			t.Fatalf("it holds %d", len(c.now)+len(c.old))
		}
		if v, _ := c.find(key(0)); v == nil || *v != 0 {
			t.Fatalf("the connection in use is forgotten after %d others", i)
		}
	}
	if v, _ := c.find(key(1)); v != nil {
		t.Error("an old connection is remembered for ever")
	}
	if v, reversed := c.find(key(99).reversed()); v == nil || !reversed {
		t.Errorf("a reply's connection is not found: %v, %v", v, reversed)
	}
}

// FuzzFrames reads frames of strangers.
func FuzzFrames(f *testing.F) {
	f.Add(uint16(1), []byte("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x81\x00\x00\x05\x08\x00\x45\x00"))
	f.Add(uint16(276), []byte{0x86, 0xdd, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x60})
	f.Add(uint16(113), []byte{})
	f.Fuzz(func(t *testing.T, link uint16, frame []byte) {
		if checkLink(layers.LinkType(link)) != nil {
			return
		}
		if ip, kind := ipPacket(layers.LinkType(link), frame); ip != nil {
			s, ok := readSegment(ip, kind)
			if ok && (!s.src.IsValid() || !s.dst.IsValid()) {
				t.Errorf("no addresses: %+v", s)
			}
		}
	})
}
