package engine

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var copiedMAC = net.HardwareAddr{2, 0, 0, 0, 0, 7}

// deniedCopy is a copy of a packet with the given layers.
func deniedCopy(t testing.TB, number byte, kind layers.EthernetType, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: copiedMAC, DstMAC: []byte{0x0a, 0x6d, 0, 0, 0, number}, EthernetType: kind}
	buf := gopacket.NewSerializeBuffer()
	all := append([]gopacket.SerializableLayer{eth}, l...)
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, all...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// strayCopy is a copy of a stray reply to copiedMAC.
func strayCopy(t testing.TB, number byte, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	data := deniedCopy(t, number, layers.EthernetTypeIPv4, l...)
	return slices.Concat(data[6:12], data[:6], data[12:])
}

func deniedCopies(t testing.TB) map[string][]byte {
	v4 := func(p layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, IHL: 5, TTL: 9, Protocol: p, SrcIP: []byte{10, 0, 0, 1}, DstIP: []byte{10, 0, 0, 2}}
	}
	v6 := func(p layers.IPProtocol) *layers.IPv6 {
		return &layers.IPv6{
			Version: 6, HopLimit: 9, NextHeader: p,
			SrcIP: netip.MustParseAddr("fd00::1").AsSlice(), DstIP: netip.MustParseAddr("fd00::2").AsSlice(),
		}
	}
	return map[string][]byte{
		"tcp":  deniedCopy(t, 1, layers.EthernetTypeIPv4, v4(layers.IPProtocolTCP), &layers.TCP{SrcPort: 4000, DstPort: 80, Seq: 7, SYN: true}),
		"data": deniedCopy(t, 1, layers.EthernetTypeIPv4, v4(layers.IPProtocolTCP), &layers.TCP{SrcPort: 4000, DstPort: 80, Seq: 7, Ack: 9, ACK: true}, gopacket.Payload("four")),
		"stray": strayCopy(t, 1, v4(layers.IPProtocolTCP), &layers.TCP{SrcPort: 80, DstPort: 4000, Seq: 7, Ack: 9, ACK: true, Window: 5, Options: []layers.TCPOption{
			{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: []byte("stampsXY")},
		}}),
		"udp6":   deniedCopy(t, 2, layers.EthernetTypeIPv6, v6(layers.IPProtocolUDP), &layers.UDP{SrcPort: 4000, DstPort: 53}),
		"sctp":   deniedCopy(t, 3, layers.EthernetTypeIPv4, v4(layers.IPProtocolSCTP), &layers.SCTP{SrcPort: 4000, DstPort: 99}),
		"icmp":   deniedCopy(t, 4, layers.EthernetTypeIPv4, v4(layers.IPProtocolICMPv4), &layers.ICMPv4{}),
		"esp":    deniedCopy(t, 5, layers.EthernetTypeIPv4, v4(layers.IPProtocolESP), gopacket.Payload("x")),
		"not ip": deniedCopy(t, 6, layers.EthernetTypeARP, gopacket.Payload("x")),
	}
}

func TestDecodeDenied(t *testing.T) {
	addr := netip.MustParseAddrPort
	want := map[string]DeniedPacket{
		"tcp": {Number: 1, Src: addr("10.0.0.1:4000"), Dst: addr("10.0.0.2:80"), Proto: "TCP", TCP: &DeniedTCP{Seq: 7, Length: 1}},
		"data": {
			Number: 1, Src: addr("10.0.0.1:4000"), Dst: addr("10.0.0.2:80"), Proto: "TCP",
			TCP: &DeniedTCP{Seq: 7, Ack: 9, Length: 4, HasAck: true},
		},
		"stray": {
			Number: 1, Stray: true, DstMAC: copiedMAC, Src: addr("10.0.0.1:80"), Dst: addr("10.0.0.2:4000"), Proto: "TCP",
			TCP: &DeniedTCP{Seq: 7, Ack: 9, HasAck: true, Window: 5, Timestamps: []byte("stampsXY")},
		},
		"udp6": {Number: 2, Src: addr("[fd00::1]:4000"), Dst: addr("[fd00::2]:53"), Proto: "UDP"},
		"sctp": {Number: 3, Src: addr("10.0.0.1:4000"), Dst: addr("10.0.0.2:99"), Proto: "SCTP"},
		"icmp": {Number: 4, Src: addr("10.0.0.1:0"), Dst: addr("10.0.0.2:0"), Proto: "ICMP"},
		"esp":  {Number: 5, Src: addr("10.0.0.1:0"), Dst: addr("10.0.0.2:0"), Proto: "50"},
	}
	for name, data := range deniedCopies(t) {
		got, ok := decodeDenied(data)
		got.Time = time.Time{}
		w, known := want[name]
		if known && !w.Stray {
			w.SrcMAC = copiedMAC
		}
		if diff := cmp.Diff(w, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" || ok != known {
			t.Errorf("%s: %v (-want +got):\n%s", name, ok, diff)
		}
	}
	if _, ok := decodeDenied(wakeFrame()); ok {
		t.Error("a frame to another MAC was taken for a copy")
	}
}

func FuzzDecodeDenied(f *testing.F) {
	for _, data := range deniedCopies(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, ok := decodeDenied(data); ok && (!d.Src.Addr().IsValid() || !d.Dst.Addr().IsValid() || d.Proto == "") {
			t.Errorf("%+v", d)
		}
	})
}
