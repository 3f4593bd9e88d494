package engine

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/rawsocket"
)

// probe is what a probe's payload holds, after a magic word.
type probe struct {
	nonce, seq uint64 // the prober's, and the probe's
	at         time.Duration
	way        uint8 // requestsWay or repliesWay
	flow       uint16
}

const (
	probeMagic   = "mk-probe"
	probePort    = 9 // "discard": no protocol is looked for there
	probePayload = len(probeMagic) + 3*8 + 1 + 2
	probeHeaders = 14 + 20 + 8
)

// Addresses of probes. The MAC is of the locally administered kind; the IP addresses are for documentation and meet no other
// packet, since nothing but probes has their VLAN.
var (
	probeSrcMAC = net.HardwareAddr{0x0a, 0x6b, 0, 0, 0, 1}
	probeSrc    = netip.MustParseAddr("192.0.2.1")
	probeDst    = netip.MustParseAddr("192.0.2.2")
)

// wakeFrame is a frame that an engine lets through, and that no Prober takes for its own.
func wakeFrame() []byte { return probe{}.frame(ledger.ProbeMAC(0, false), 0) }

// frame is a tagged Ethernet frame with a UDP packet to an address by which the bridge knows the engine and the way. The source port
// tells apart flows, from 49152 on.
func (p probe) frame(mac net.HardwareAddr, port uint16) []byte {
	payload := make([]byte, 0, probePayload)
	payload = append(payload, probeMagic...)
	payload = binary.BigEndian.AppendUint64(payload, p.nonce)
	payload = binary.BigEndian.AppendUint64(payload, p.seq)
	payload = binary.BigEndian.AppendUint64(payload, uint64(p.at))
	payload = append(payload, p.way)
	payload = binary.BigEndian.AppendUint16(payload, p.flow)

	src, dst := probeSrc, probeDst
	if p.way == repliesWay {
		src, dst = dst, src // another flow
	}
	ip := &layers.IPv4{
		Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolUDP, Id: uint16(p.seq),
		SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(49152 + (port+p.flow)%16384), DstPort: probePort}
	_ = udp.SetNetworkLayerForChecksum(ip)
	buf := gopacket.NewSerializeBuffer()
	// Serialising these fixed layers into memory cannot fail.
	_ = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: probeSrcMAC, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4},
		ip, udp, gopacket.Payload(payload))
	return rawsocket.Tagged(buf.Bytes(), ledger.ProbeVLAN, 0)
}

// readProbe reads a frame without its tag.
func readProbe(data []byte) (p probe, ok bool) {
	if len(data) < probeHeaders+probePayload {
		return probe{}, false
	}
	payload := data[probeHeaders:]
	if string(payload[:len(probeMagic)]) != probeMagic {
		return probe{}, false
	}
	payload = payload[len(probeMagic):]
	return probe{
		nonce: binary.BigEndian.Uint64(payload), seq: binary.BigEndian.Uint64(payload[8:]),
		at: time.Duration(binary.BigEndian.Uint64(payload[16:])), way: payload[24], flow: binary.BigEndian.Uint16(payload[25:]),
	}, true
}
