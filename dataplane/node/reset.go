package node

import (
	"net"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// reset sends TCP resets to both ends of a connection of which the engine dropped a packet, when its policies ask for that:
// neither waits for a time-out, and the client's kernel does not send the denied request again and again, until perhaps another
// policy lets it pass.
//
// Each reset has the sequence number that its receiver expects next, since any other is ignored (RFC 5961): the dropped packet
// itself tells both. They take the ways of the connection's own packets, but behind the engine.
func (n *Node) reset(d *verdict.Directory, e engine.Event) {
	if e.Drop == nil || e.Drop.RST || e.Proto != "TCP" || !d.Resets(e.VLAN) || len(e.SrcMAC) != 6 || len(e.DstMAC) != 6 {
		return
	}
	forth, back := uint8(openflow.ResetToServer), uint8(openflow.ResetToClient)
	if e.Interface == attach.EngineB {
		forth, back = back, forth
	}
	frames := [][]byte{
		resetFrame(e.VLAN, forth, e.SrcMAC, e.DstMAC, e.Src, e.Dst, e.Drop.TCPSeq),
		resetFrame(e.VLAN, back, e.DstMAC, e.SrcMAC, e.Dst, e.Src, e.Drop.TCPAck),
	}
	for _, f := range frames {
		if err := n.engine.Inject(f); err != nil {
			n.cfg.Log.V(1).Info("Cannot send a reset", "reason", err.Error())
		}
	}
}

// resetFrame is a TCP reset from one address to another, tagged with the connection's InspectionID and the way it goes.
func resetFrame(vlan uint16, way uint8, srcMAC, dstMAC net.HardwareAddr, src, dst netip.AddrPort, seq uint32) []byte {
	ethernet := &layers.Ethernet{SrcMAC: srcMAC, DstMAC: dstMAC, EthernetType: layers.EthernetTypeDot1Q}
	tag := &layers.Dot1Q{Priority: way, VLANIdentifier: vlan}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), Seq: seq, RST: true}
	var ip gopacket.SerializableLayer
	if src.Addr().Is4() {
		tag.Type = layers.EthernetTypeIPv4
		v4 := &layers.IPv4{
			Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, Flags: layers.IPv4DontFragment,
			SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice(),
		}
		_ = tcp.SetNetworkLayerForChecksum(v4) // fails only for what is no network layer
		ip = v4
	} else {
		tag.Type = layers.EthernetTypeIPv6
		v6 := &layers.IPv6{
			Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice(),
		}
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
