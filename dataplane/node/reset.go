package node

import (
	"net"
	"net/netip"

	"github.com/gopacket/gopacket/layers"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
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
	n.cfg.Log.V(1).Info("Reset", "from", e.Src, "to", e.Dst, "reason", e.Drop.Reason, "rule", e.Drop.Rule)
	forth, back := uint8(openflow.ResetToServer), uint8(openflow.ResetToClient)
	if e.Interface == attach.EngineB {
		forth, back = back, forth
	}
	if e.Drop.SYN && e.Drop.TCPAck == 0 {
		// A new connection from the port of one that was denied, which the engine remembers for some minutes: without an answer the
		// client would try for as long, and each try makes the engine remember longer. Refused, it connects from another port.
		n.inject(resetFrame(e.VLAN, back, tcpReset{e.DstMAC, e.SrcMAC, e.Dst, e.Src, 0, e.Drop.TCPSeq + 1}))
		return
	}
	n.inject(resetFrame(e.VLAN, forth, tcpReset{e.SrcMAC, e.DstMAC, e.Src, e.Dst, e.Drop.TCPSeq, 0}))
	n.inject(resetFrame(e.VLAN, back, tcpReset{e.DstMAC, e.SrcMAC, e.Dst, e.Src, e.Drop.TCPAck, 0}))
}

// resetRefused does the same for a connection that the flows denied: its client learns at once that nobody will answer. The
// server hears of it only when the connection was open before (a policy has changed) and the server is the governed Pod: of
// another, the copy of the packet does not tell the MAC address.
func (n *Node) resetRefused(d *verdict.Directory, p engine.DeniedPacket) {
	denial, ok := d.Denial(p.Number)
	if !ok || !denial.Reset || p.TCP == nil || p.TCP.RST || len(p.SrcMAC) != 6 {
		return
	}
	n.cfg.Log.V(1).Info("Reset", "from", p.Src, "to", p.Dst, "reason", "the flows deny it", "policies", denial.Policies)
	vlan, mac := uint16(ledger.EgressFirst), somebody
	if denial.Direction == plan.Ingress {
		vlan, mac = ledger.IngressFirst, d.MAC(p.Dst.Addr())
	}
	if len(mac) != 6 {
		return
	}
	back := tcpReset{srcMAC: mac, dstMAC: p.SrcMAC, src: p.Dst, dst: p.Src, seq: p.TCP.Ack}
	if !p.TCP.HasAck {
		back.seq, back.ack = 0, p.TCP.Seq+p.TCP.Length
	}
	n.inject(resetFrame(vlan, openflow.ResetToClient, back))
	if p.TCP.HasAck && denial.Direction == plan.Ingress {
		n.inject(resetFrame(vlan, openflow.ResetToServer, tcpReset{p.SrcMAC, mac, p.Src, p.Dst, p.TCP.Seq, 0}))
	}
}

// somebody is the source address of resets to a Pod, which does not look at it.
var somebody = net.HardwareAddr{0x0a, 0x6d, 0, 0, 0, 1}

// inject sends a frame; nil is none.
func (n *Node) inject(frame []byte) {
	if frame == nil {
		return
	}
	if err := n.engine.Inject(frame); err != nil {
		n.cfg.Log.V(1).Info("Cannot send a reset", "reason", err.Error())
	}
}

// tcpReset is a TCP reset from one address to another. ack is 0 where it answers a packet that had an acknowledgement.
type tcpReset struct {
	srcMAC, dstMAC net.HardwareAddr
	src, dst       netip.AddrPort
	seq, ack       uint32
}

// resetFrame is a reset's whole frame, tagged with the connection's InspectionID and the way it goes.
func resetFrame(vlan uint16, way uint8, r tcpReset) []byte {
	return segmentFrame(vlan, way, r.srcMAC, r.dstMAC, r.src.Addr(), r.dst.Addr(), &layers.TCP{
		SrcPort: layers.TCPPort(r.src.Port()), DstPort: layers.TCPPort(r.dst.Port()), Seq: r.seq, Ack: r.ack, ACK: r.ack != 0, RST: true,
	})
}
