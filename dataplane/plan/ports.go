package plan

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// A protocol and a port together are one number, protocol * portsPerProtocol + port, so that a set of ports of several
// protocols is one list of ranges. Protocols are numbered in the order of their names.
const (
	protocolSCTP = iota
	protocolTCP
	protocolUDP
	protocolCount

	portsPerProtocol = 1 << 16
)

// protocolName is the inverse of protocolNumber.
func protocolName(n int) Protocol {
	return [protocolCount]Protocol{SCTP, TCP, UDP}[n]
}

// protocolNumber numbers a protocol; "" is TCP, as everywhere in Kubernetes. It returns false for an unknown one.
func protocolNumber(p string) (int, bool) {
	switch corev1.Protocol(p) {
	case corev1.ProtocolTCP, "":
		return protocolTCP, true
	case corev1.ProtocolUDP:
		return protocolUDP, true
	case corev1.ProtocolSCTP:
		return protocolSCTP, true
	}
	return 0, false
}

// portRange is the half-open range lo..hi of protocol-and-port numbers.
type portRange struct{ lo, hi uint32 }

func onePort(protocol int, port uint16) portRange {
	return somePorts(protocol, port, port)
}

func somePorts(protocol int, first, last uint16) portRange {
	base := uint32(protocol) * portsPerProtocol
	return portRange{base + uint32(first), base + uint32(last) + 1}
}

func allPortsOf(protocol int) portRange {
	return somePorts(protocol, 0, portsPerProtocol-1)
}

// portSet is a set of protocol-and-port numbers: disjoint ranges that do not touch, in order.
type portSet []portRange

// newPortSet puts ranges into a portSet's form. It may change its argument.
func newPortSet(ranges []portRange) portSet {
	slices.SortFunc(ranges, func(a, b portRange) int { return cmp.Compare(a.lo, b.lo) })
	set := ranges[:0]
	for _, r := range ranges {
		if n := len(set); n > 0 && r.lo <= set[n-1].hi {
			set[n-1].hi = max(set[n-1].hi, r.hi)
			continue
		}
		set = append(set, r)
	}
	return set
}

// everyPort holds all ports of all protocols.
func everyPort() portSet {
	return portSet{{0, protocolCount * portsPerProtocol}}
}

func (s portSet) contains(r portRange) bool {
	return slices.ContainsFunc(s, func(have portRange) bool { return have.lo <= r.lo && r.hi <= have.hi })
}
