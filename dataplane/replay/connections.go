package replay

import (
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// tuple is a packet's ends.
type tuple struct {
	protocol plan.Protocol
	src, dst netip.AddrPort
}

func (t tuple) reversed() tuple { return tuple{t.protocol, t.dst, t.src} }

// segment is what is read of a packet.
type segment struct {
	tuple
	// opens is true for a TCP packet that opens a connection, and answers for the server's reply to that.
	opens, answers bool
	// fragment identifies the IP packet that this is a part of; 0 for a whole one. Only the first part has ports.
	fragment uint32
	first    bool
}

// readSegment reads an IP packet; false for one that is cut short, or of a protocol without ports.
func readSegment(ip []byte, kind layers.EthernetType) (segment, bool) {
	first := layers.LayerTypeIPv4
	if kind == layers.EthernetTypeIPv6 {
		first = layers.LayerTypeIPv6
	}
	packet := gopacket.NewPacket(ip, first, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	var s segment
	s.first = true
	var src, dst netip.Addr
	switch l := packet.NetworkLayer().(type) {
	case *layers.IPv4:
		src, _ = netip.AddrFromSlice(l.SrcIP)
		dst, _ = netip.AddrFromSlice(l.DstIP)
		s.protocol = protocols[l.Protocol]
		if l.FragOffset != 0 || l.Flags&layers.IPv4MoreFragments != 0 {
			s.fragment, s.first = 1<<16|uint32(l.Id), l.FragOffset == 0
		}
	case *layers.IPv6:
		src, _ = netip.AddrFromSlice(l.SrcIP)
		dst, _ = netip.AddrFromSlice(l.DstIP)
		s.protocol = protocols[l.NextHeader]
		if f, ok := packet.Layer(layers.LayerTypeIPv6Fragment).(*layers.IPv6Fragment); ok {
			s.protocol = protocols[f.NextHeader]
			s.fragment, s.first = max(1, f.Identification), f.FragmentOffset == 0
		}
	default:
		return s, false
	}
	s.src, s.dst = netip.AddrPortFrom(src.Unmap(), 0), netip.AddrPortFrom(dst.Unmap(), 0)
	if !s.first {
		return s, true
	}
	ports := func(p plan.Protocol, from, to uint16) {
		s.protocol = p
		s.src, s.dst = netip.AddrPortFrom(s.src.Addr(), from), netip.AddrPortFrom(s.dst.Addr(), to)
	}
	transport := packet.TransportLayer()
	if transport == nil && s.fragment != 0 {
		transport = firstFragment(packet)
	}
	switch l := transport.(type) {
	case *layers.TCP:
		ports(plan.TCP, uint16(l.SrcPort), uint16(l.DstPort))
		s.opens, s.answers = l.SYN && !l.ACK, l.SYN && l.ACK
	case *layers.UDP:
		ports(plan.UDP, uint16(l.SrcPort), uint16(l.DstPort))
	case *layers.SCTP:
		ports(plan.SCTP, uint16(l.SrcPort), uint16(l.DstPort))
	default:
		return s, false
	}
	return s, true
}

var protocols = map[layers.IPProtocol]plan.Protocol{
	layers.IPProtocolTCP: plan.TCP, layers.IPProtocolUDP: plan.UDP, layers.IPProtocolSCTP: plan.SCTP,
}

// firstFragment reads the ports of the first part of an IP packet, which gopacket leaves alone; nil when it has none.
func firstFragment(packet gopacket.Packet) gopacket.TransportLayer {
	part := packet.Layer(gopacket.LayerTypeFragment)
	if part == nil || packet.NetworkLayer() == nil {
		return nil
	}
	var decoder gopacket.Decoder
	switch l := packet.NetworkLayer().(type) {
	case *layers.IPv4:
		decoder = l.Protocol
	case *layers.IPv6:
		f, _ := packet.Layer(layers.LayerTypeIPv6Fragment).(*layers.IPv6Fragment)
		if f == nil {
			return nil
		}
		decoder = f.NextHeader
	}
	return gopacket.NewPacket(part.LayerContents(), decoder, gopacket.DecodeOptions{Lazy: true, NoCopy: true}).TransportLayer()
}

// maxConnections bounds the connections whose direction is remembered, in each of two generations: some 60 MB. An older one is judged
// anew at its next packet.
const maxConnections = 1 << 17

// connections remember who opened each connection, and what was decided about it.
type connections[T any] struct {
	most     int
	now, old map[tuple]*T
}

// find returns what is known of a connection by its tuple from the client, or of one in the other direction; nil when neither is
// known.
func (c *connections[T]) find(t tuple) (known *T, reversed bool) {
	for _, reversed := range []bool{false, true} {
		if reversed {
			t = t.reversed()
		}
		if known, ok := c.now[t]; ok {
			return known, reversed
		}
		if known, ok := c.old[t]; ok {
			c.put(t, known)
			return known, reversed
		}
	}
	return nil, false
}

func (c *connections[T]) put(t tuple, value *T) {
	if c.now == nil || len(c.now) >= c.most {
		c.old, c.now = c.now, make(map[tuple]*T)
	}
	c.now[t] = value
}

// fromServer guesses, for a connection whose beginning the capture does not have, whether a packet is the server's: it has the
// lower of the two ports.
func (s segment) fromServer() bool {
	if s.opens {
		return false
	}
	if s.answers {
		return true
	}
	return s.protocol == plan.TCP && s.src.Port() < s.dst.Port()
}
