package capture

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// packet is one packet as it came to an engine.
type packet struct {
	at time.Time
	// tap is the VLAN id.
	tap  uint16
	flow flow
	// frame is the Ethernet frame without that VLAN tag.
	frame []byte
}

// flow is a connection, whoever of the two speaks. It has no pointers, since there are many.
type flow struct {
	a, b         [16]byte // a is the smaller one, with its port
	portA, portB uint16
	protocol     uint8
	// later says that this is a fragment but the first, whose ports are not known: they are 0 then.
	later bool
}

// flowOf makes the flow of two ends.
func flowOf(x, y netip.AddrPort, protocol uint8) flow {
	if c := x.Addr().Unmap().Compare(y.Addr().Unmap()); c > 0 || c == 0 && x.Port() > y.Port() {
		x, y = y, x
	}
	return flow{a: x.Addr().As16(), b: y.Addr().As16(), portA: x.Port(), portB: y.Port(), protocol: protocol}
}

// addresses is the flow without its ports: what a later fragment tells.
func (f flow) addresses() flow {
	f.portA, f.portB, f.later = 0, 0, true
	// Of equal ports the addresses decide the order, so that it is the same without ports.
	if less(f.b, f.a) {
		f.a, f.b = f.b, f.a
	}
	return f
}

func less(a, b [16]byte) bool { return string(a[:]) < string(b[:]) }

// Numbers of protocols.
const (
	icmp   = 1
	tcp    = 6
	udp    = 17
	icmpv6 = 58
	sctp   = 132
)

// protocolNumber is the number of a protocol as Suricata names it; false for others, whose packets are not kept.
func protocolNumber(name string) (uint8, bool) {
	n, ok := map[string]uint8{"TCP": tcp, "UDP": udp, "SCTP": sctp, "ICMP": icmp, "IPv6-ICMP": icmpv6}[name]
	return n, ok
}

const (
	etherIPv4, etherIPv6, etherVLAN, etherQinQ = 0x0800, 0x86dd, 0x8100, 0x88a8
	etherHeader, tagSize                       = 14, 4
)

// parse finds the flow of a frame without VLAN tag; false for one that is not IP, or cut off.
func parse(frame []byte) (flow, bool) {
	if len(frame) < etherHeader {
		return flow{}, false
	}
	body := frame[etherHeader:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherIPv4:
		return parseIPv4(body)
	case etherIPv6:
		return parseIPv6(body)
	}
	return flow{}, false
}

func parseIPv4(b []byte) (flow, bool) {
	if len(b) < 20 {
		return flow{}, false
	}
	header := int(b[0]&15) * 4
	if header < 20 || len(b) < header {
		return flow{}, false
	}
	from, to := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	return withPorts(from, to, b[9], b[header:], binary.BigEndian.Uint16(b[6:])&0x1fff != 0)
}

// maxExtensions bounds how many extension headers of IPv6 are gone through.
const maxExtensions = 8

func parseIPv6(b []byte) (flow, bool) {
	if len(b) < 40 {
		return flow{}, false
	}
	from, to := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	next, rest, later := b[6], b[40:], false
	for range maxExtensions {
		size := 0
		switch next {
		case 0, 43, 60: // hop by hop, routing, destination
			if len(rest) < 8 {
				return flow{}, false
			}
			size = int(rest[1])*8 + 8
		case 44: // fragment
			if len(rest) < 8 {
				return flow{}, false
			}
			size, later = 8, binary.BigEndian.Uint16(rest[2:])&0xfff8 != 0
		default:
			return withPorts(from, to, next, rest, later)
		}
		if len(rest) < size {
			return flow{}, false
		}
		next, rest = rest[0], rest[size:]
		if later {
			return withPorts(from, to, next, nil, true)
		}
	}
	return flow{}, false
}

func withPorts(from, to netip.Addr, protocol uint8, payload []byte, later bool) (flow, bool) {
	var source, destination uint16
	if !later && (protocol == tcp || protocol == udp || protocol == sctp) {
		if len(payload) < 4 {
			return flow{}, false
		}
		source, destination = binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:])
	}
	f := flowOf(netip.AddrPortFrom(from, source), netip.AddrPortFrom(to, destination), protocol)
	if later {
		f = f.addresses()
	}
	return f, true
}

// untag takes the VLAN tag out of a frame that has one; 0 for one that has none.
func untag(frame []byte) ([]byte, uint16) {
	if len(frame) < etherHeader+tagSize {
		return frame, 0
	}
	if kind := binary.BigEndian.Uint16(frame[12:]); kind != etherVLAN && kind != etherQinQ {
		return frame, 0
	}
	id := binary.BigEndian.Uint16(frame[14:]) & 0x0fff
	out := make([]byte, 0, len(frame)-tagSize)
	return append(append(out, frame[:12]...), frame[16:]...), id
}
