package node

import (
	"net"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// segmentFrame is the whole frame of a TCP segment without payload, tagged with the InspectionID of its connection and the way it goes.
func segmentFrame(vlan uint16, way uint8, srcMAC, dstMAC net.HardwareAddr, src, dst netip.Addr, tcp *layers.TCP) []byte {
	ethernet := &layers.Ethernet{SrcMAC: srcMAC, DstMAC: dstMAC, EthernetType: layers.EthernetTypeDot1Q}
	tag := &layers.Dot1Q{Priority: way, VLANIdentifier: vlan}
	var ip gopacket.SerializableLayer
	if src.Is4() {
		tag.Type = layers.EthernetTypeIPv4
		v4 := &layers.IPv4{
			Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, Flags: layers.IPv4DontFragment, SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
		}
		_ = tcp.SetNetworkLayerForChecksum(v4) // fails only for what is no network layer
		ip = v4
	} else {
		tag.Type = layers.EthernetTypeIPv6
		v6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		_ = tcp.SetNetworkLayerForChecksum(v6)
		ip = v6
	}
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buffer, options, ethernet, tag, ip, tcp); err != nil {
		return nil // only when a length does not fit
	}
	return buffer.Bytes()
}
