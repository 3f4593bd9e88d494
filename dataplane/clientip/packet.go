package clientip

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Connection is what a packet tells of its connection.
type Connection struct {
	Protocol uint8 // unix.IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP
	// Source and Destination are as the packet has them.
	Source, Destination netip.AddrPort
}

const ethernetHeader = 14

// packet is a frame of which the parts are known that change with its source address.
type packet struct {
	Connection
	frame  []byte
	source int // where the source address begins
	header int // where the IPv4 header's checksum is; 0: it has none
	sum    int // where the checksum of TCP or UDP is; 0: it has none, as SCTP's does not cover addresses
}

// parse reads an untagged frame, and returns false for what is no whole first packet of TCP, UDP or SCTP.
func parse(frame []byte) (packet, bool) {
	if len(frame) < ethernetHeader {
		return packet{}, false
	}
	p := packet{frame: frame}
	var from, to netip.Addr
	var transport int
	ip := frame[ethernetHeader:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		if len(ip) < 20 || ip[0]>>4 != 4 || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 { // a fragment
			return packet{}, false
		}
		from, to = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		p.Protocol, p.source, p.header = ip[9], ethernetHeader+12, ethernetHeader+10
		transport = int(ip[0]&0x0f) * 4
	case unix.ETH_P_IPV6:
		if len(ip) < 40 || ip[0]>>4 != 6 {
			return packet{}, false
		}
		from, to = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		p.source = ethernetHeader + 8
		p.Protocol, transport = beyondExtensions(ip)
	default:
		return packet{}, false
	}
	checksum := map[uint8]int{unix.IPPROTO_TCP: 16, unix.IPPROTO_UDP: 6, unix.IPPROTO_SCTP: 0}
	sum, known := checksum[p.Protocol]
	if !known || len(ip) < transport+max(sum+2, 4) {
		return packet{}, false
	}
	if sum != 0 && (p.Protocol != unix.IPPROTO_UDP || binary.BigEndian.Uint16(ip[transport+sum:]) != 0) {
		p.sum = ethernetHeader + transport + sum
	}
	p.Source = netip.AddrPortFrom(from, binary.BigEndian.Uint16(ip[transport:]))
	p.Destination = netip.AddrPortFrom(to, binary.BigEndian.Uint16(ip[transport+2:]))
	return p, true
}

// beyondExtensions finds the transport header of an IPv6 packet that is no fragment; protocol 0 when there is none.
func beyondExtensions(ip []byte) (protocol uint8, at int) {
	protocol, at = ip[6], 40
	for len(ip) >= at+8 {
		switch protocol {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			protocol, at = ip[at], at+(int(ip[at+1])+1)*8
		case unix.IPPROTO_FRAGMENT:
			return 0, 0
		default:
			return protocol, at
		}
	}
	return 0, 0
}

// setSource gives the packet another source address of the same family, and mends its checksums (RFC 1624).
func (p *packet) setSource(a netip.Addr) {
	was := p.frame[p.source : p.source+len(a.AsSlice())]
	for _, at := range []int{p.header, p.sum} {
		if at != 0 {
			sum := adjust(binary.BigEndian.Uint16(p.frame[at:]), was, a.AsSlice())
			if at == p.sum && p.Protocol == unix.IPPROTO_UDP && sum == 0 {
				sum = 0xffff // 0 means that there is none
			}
			binary.BigEndian.PutUint16(p.frame[at:], sum)
		}
	}
	copy(was, a.AsSlice())
	p.Source = netip.AddrPortFrom(a, p.Source.Port())
}

// adjust gives the checksum after bytes that it covers have changed.
func adjust(sum uint16, was, is []byte) uint16 {
	total := uint32(^sum)
	for i := 0; i < len(was); i += 2 {
		total += uint32(^binary.BigEndian.Uint16(was[i:])) + uint32(binary.BigEndian.Uint16(is[i:]))
	}
	for total > 0xffff {
		total = total&0xffff + total>>16
	}
	return ^uint16(total)
}
