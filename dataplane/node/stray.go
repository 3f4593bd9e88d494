package node

import (
	"net"
	"net/netip"

	"github.com/gopacket/gopacket/layers"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// stray answers a stray reply. The flows drop such a reply: it is of an open connection that the switch does not know, since the Pod
// was interposed in the midst of it, and which only the client's direction can judge. A client that waits for what its server tells (a
// watch, a download of which all is acknowledged) would never send a segment.
//
// Where the policies let the two connect, the client gets what a server sends to see whether its client is there still: a segment
// before what it expects, without payload, to which it must answer (RFC 9293, 3.10.7.4). Where they do not, the governed Pod's end is
// reset, if they ask for resets, and the other end gets nothing: else a Pod that may connect nowhere could have the agent speak to
// whomever it likes, by replies that it makes up.
func (n *Node) stray(d *verdict.Directory, p engine.DeniedPacket) {
	direction, pod, peer := plan.Ingress, p.Src, p.Dst
	if p.Number == openflow.StrayEgress {
		direction, pod, peer = plan.Egress, p.Dst, p.Src
	}
	v, known := d.Judge(direction, pod.Addr(), peer.Addr(), p.Src.Port())
	switch {
	case !known || p.TCP == nil || p.TCP.RST || !p.TCP.HasAck || len(p.DstMAC) != 6:
	case v.Verdict != plan.Deny:
		for _, server := range serversOf(d, p) {
			n.inject(wakeFrame(d.MAC(p.Src.Addr()), server, p))
		}
	case !v.Reset:
	case direction == plan.Ingress:
		if mac := d.MAC(p.Src.Addr()); len(mac) == 6 {
			n.inject(resetFrame(ledger.IngressFirst, openflow.ResetToServer, tcpReset{p.DstMAC, mac, p.Dst, p.Src, p.TCP.Ack, 0}))
		}
	default:
		for _, server := range serversOf(d, p) {
			n.inject(resetFrame(ledger.EgressFirst, openflow.ResetToClient, tcpReset{somebody, p.DstMAC, server, p.Dst, p.TCP.Seq, 0}))
		}
	}
}

// serversOf gives the addresses by which the client of a stray reply may know its server. For a governed client these are the Services',
// too: the switch, which translated, has forgotten whether and which. The client's kernel has a connection with one of them, and the flows
// drop what it says of the others.
func serversOf(d *verdict.Directory, p engine.DeniedPacket) []netip.AddrPort {
	if p.Number != openflow.StrayEgress {
		return []netip.AddrPort{p.Src}
	}
	return append([]netip.AddrPort{p.Src}, d.Frontends(p.Src)...)
}

// wakeFrame is the frame that makes the client of a stray reply speak, from the address by which it may know its server; nil when the Pod
// that sent the reply is gone. serverMAC is that Pod's, if it is one of this node.
func wakeFrame(serverMAC net.HardwareAddr, server netip.AddrPort, p engine.DeniedPacket) []byte {
	vlan := uint16(ledger.EgressFirst)
	if p.Number == openflow.StrayIngress {
		vlan = ledger.IngressFirst
	} else {
		serverMAC = somebody
	}
	if len(serverMAC) != 6 {
		return nil
	}
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(server.Port()), DstPort: layers.TCPPort(p.Dst.Port()),
		Seq: p.TCP.Seq - 1, Ack: p.TCP.Ack, ACK: true, Window: p.TCP.Window,
	}
	if p.TCP.Timestamps != nil {
		tcp.Options = []layers.TCPOption{
			{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
			{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: p.TCP.Timestamps},
		}
	}
	return segmentFrame(vlan, openflow.ResetToClient, serverMAC, p.DstMAC, server.Addr(), p.Dst.Addr(), tcp)
}
