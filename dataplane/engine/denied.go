package engine

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// DeniedPacket is a copy of a packet that was denied at L4, before it came to the engine, or that is a stray reply: one of a TCP
// connection that conntrack does not know.
type DeniedPacket struct {
	// Number is the denial's: the last four bytes of the copy's destination MAC, whose first two are DeniedMACPrefix. For a stray reply
	// these are in the source MAC.
	Number uint32
	Stray  bool
	// Src and Dst have port 0 where the protocol has no ports.
	Src, Dst netip.AddrPort
	Proto    string // "TCP", "UDP", "SCTP", "ICMP", "ICMPv6", else the IP protocol's number
	Time     time.Time
	// SrcMAC is the packet's, nil for a stray reply; DstMAC is a stray reply's, else nil. The copy no longer has the other one.
	SrcMAC, DstMAC net.HardwareAddr
	// TCP is the packet's TCP header, as far as an answer needs it; nil for other protocols.
	TCP *DeniedTCP
}

// DeniedTCP is what a segment in answer to a packet, or in its place, needs to know of it.
type DeniedTCP struct {
	Seq, Ack uint32
	// Length counts what the packet takes of the sequence space: its payload in bytes, and one each for SYN and FIN.
	Length uint32
	// HasAck tells whether Ack means anything, which it does not in a connection's first packet. RST marks a reset.
	HasAck, RST bool
	// Window is as the header has it, not scaled. Timestamps are the two of RFC 7323 as they were sent, 8 bytes, or nil.
	Window     uint16
	Timestamps []byte
}

// DeniedMACPrefix begins the destination MAC of the copy of a denied packet; the denial's number follows, in network order.
const DeniedMACPrefix = 0x0a6d

// decodeDenied reads a copy. It tolerates any bytes, since they come from whoever was denied; a packet that is not IP, or whose
// headers are cut short, is not reported.
func decodeDenied(data []byte) (DeniedPacket, bool) {
	if len(data) < 14 {
		return DeniedPacket{}, false
	}
	d := DeniedPacket{Time: time.Now()}
	switch uint16(DeniedMACPrefix) {
	case binary.BigEndian.Uint16(data):
		d.Number, d.SrcMAC = binary.BigEndian.Uint32(data[2:]), slices.Clone(data[6:12])
	case binary.BigEndian.Uint16(data[6:]):
		d.Stray, d.Number, d.DstMAC = true, binary.BigEndian.Uint32(data[8:]), slices.Clone(data[:6])
	default:
		return DeniedPacket{}, false
	}
	packet := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})

	if laterFragment(packet) {
		return DeniedPacket{}, false // its first one is reported
	}
	var src, dst []byte
	var protocol layers.IPProtocol
	switch ip := packet.NetworkLayer().(type) {
	case *layers.IPv4:
		src, dst, protocol = ip.SrcIP, ip.DstIP, ip.Protocol
	case *layers.IPv6:
		src, dst, protocol = ip.SrcIP, ip.DstIP, ip.NextHeader
	default:
		return DeniedPacket{}, false
	}
	var srcPort, dstPort uint16
	switch l4 := packet.TransportLayer().(type) {
	case *layers.TCP:
		srcPort, dstPort, protocol = uint16(l4.SrcPort), uint16(l4.DstPort), layers.IPProtocolTCP
		d.TCP = deniedTCP(l4)
	case *layers.UDP:
		srcPort, dstPort, protocol = uint16(l4.SrcPort), uint16(l4.DstPort), layers.IPProtocolUDP
	case *layers.SCTP:
		srcPort, dstPort, protocol = uint16(l4.SrcPort), uint16(l4.DstPort), layers.IPProtocolSCTP
	}
	from, ok1 := netip.AddrFromSlice(src)
	to, ok2 := netip.AddrFromSlice(dst)
	if !ok1 || !ok2 {
		return DeniedPacket{}, false
	}
	d.Src, d.Dst = netip.AddrPortFrom(from.Unmap(), srcPort), netip.AddrPortFrom(to.Unmap(), dstPort)
	d.Proto = protocolName(protocol)
	return d, true
}

func laterFragment(p gopacket.Packet) bool {
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		return ip.FragOffset > 0
	case *layers.IPv6:
		f, ok := p.Layer(layers.LayerTypeIPv6Fragment).(*layers.IPv6Fragment)
		return ok && f.FragmentOffset > 0
	}
	return false
}

func deniedTCP(h *layers.TCP) *DeniedTCP {
	t := &DeniedTCP{Seq: h.Seq, Ack: h.Ack, HasAck: h.ACK, RST: h.RST, Length: uint32(len(h.Payload)), Window: h.Window}
	for _, o := range h.Options {
		if o.OptionType == layers.TCPOptionKindTimestamps && len(o.OptionData) == 8 {
			t.Timestamps = slices.Clone(o.OptionData)
		}
	}
	if h.SYN {
		t.Length++
	}
	if h.FIN {
		t.Length++
	}
	return t
}

func protocolName(p layers.IPProtocol) string {
	switch p {
	case layers.IPProtocolTCP:
		return "TCP"
	case layers.IPProtocolUDP:
		return "UDP"
	case layers.IPProtocolSCTP:
		return "SCTP"
	case layers.IPProtocolICMPv4:
		return "ICMP"
	case layers.IPProtocolICMPv6:
		return "ICMPv6"
	default:
		return strconv.Itoa(int(p))
	}
}
