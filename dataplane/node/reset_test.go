package node

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
)

// TestResetFrame reads resets with a parser of packets, checksums included.
func TestResetFrame(t *testing.T) {
	from, to := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	for name, r := range map[string]tcpReset{
		"IPv4, in the sequence": {from, to, netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("10.0.0.2:80"), 7, 0},
		"IPv6, in the sequence": {from, to, netip.MustParseAddrPort("[fd00::1]:40000"), netip.MustParseAddrPort("[fd00::2]:80"), 7, 0},
		"in answer to a SYN":    {from, to, netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("10.0.0.2:80"), 0, 9},
	} {
		p := gopacket.NewPacket(resetFrame(5, openflow.ResetToClient, r), layers.LayerTypeEthernet, gopacket.Default)
		if p.ErrorLayer() != nil {
			t.Errorf("%s: %v", name, p.ErrorLayer().Error())
			continue
		}
		ethernet := p.LinkLayer().(*layers.Ethernet)
		tag, _ := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q)
		tcp, _ := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if ethernet.SrcMAC.String() != from.String() || ethernet.DstMAC.String() != to.String() {
			t.Errorf("%s: it goes from %s to %s", name, ethernet.SrcMAC, ethernet.DstMAC)
		}
		if tag == nil || tag.VLANIdentifier != 5 || tag.Priority != openflow.ResetToClient {
			t.Errorf("%s: its tag is %+v", name, tag)
		}
		src, dst := p.NetworkLayer().NetworkFlow().Endpoints()
		if src.String() != r.src.Addr().String() || dst.String() != r.dst.Addr().String() {
			t.Errorf("%s: it goes from %s to %s", name, src, dst)
		}
		if tcp == nil || !tcp.RST || tcp.ACK != (r.ack != 0) || tcp.Seq != r.seq || tcp.Ack != r.ack ||
			tcp.SrcPort != 40000 || tcp.DstPort != 80 || tcp.SYN || tcp.FIN || len(tcp.Payload) != 0 {
			t.Errorf("%s: its header is %+v", name, tcp)
			continue
		}
		if err := tcp.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
			t.Fatal(err)
		}
		if sum, err := tcp.ComputeChecksum(); err != nil || sum != 0 {
			t.Errorf("%s: its checksum is off by %#x (%v)", name, sum, err)
		}
	}
}

// TestWakeFrame reads, with a parser of packets, what is said to a client that only listens.
func TestWakeFrame(t *testing.T) {
	pod, next := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	stamps := []byte{0, 0, 0, 1, 0, 0, 0, 2}
	stray := func(number uint32, change func(*engine.DeniedPacket)) engine.DeniedPacket {
		p := engine.DeniedPacket{
			Number: number, Stray: true, DstMAC: next, Proto: "TCP",
			Src: netip.MustParseAddrPort("10.0.0.1:80"), Dst: netip.MustParseAddrPort("10.0.0.2:40000"),
			TCP: &engine.DeniedTCP{Seq: 0, Ack: 9, HasAck: true, Length: 1000, Window: 77, Timestamps: stamps},
		}
		change(&p)
		return p
	}
	same := func(*engine.DeniedPacket) {}
	for name, c := range map[string]struct {
		packet engine.DeniedPacket
		mac    net.HardwareAddr
		from   string // the frame's source address; "" when nothing is to be said
		vlan   uint16
	}{
		"a reply of a Pod":               {stray(openflow.StrayIngress, same), pod, pod.String(), 1},
		"a reply to a Pod":               {stray(openflow.StrayEgress, same), nil, somebody.String(), 2049},
		"a Pod that is gone":             {stray(openflow.StrayIngress, same), nil, "", 0},
		"without stamps, as some stacks": {stray(openflow.StrayIngress, func(p *engine.DeniedPacket) { p.TCP.Timestamps = nil }), pod, pod.String(), 1},
	} {
		frame := wakeFrame(c.mac, c.packet.Src, c.packet)
		if c.from == "" {
			if frame != nil {
				t.Errorf("%s: there is a frame", name)
			}
			continue
		}
		p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
		ethernet, _ := p.LinkLayer().(*layers.Ethernet)
		tag, _ := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q)
		tcp, _ := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if p.ErrorLayer() != nil || tcp == nil || tag == nil {
			t.Errorf("%s: %v", name, p)
			continue
		}
		if ethernet.SrcMAC.String() != c.from || ethernet.DstMAC.String() != next.String() || tag.VLANIdentifier != c.vlan ||
			tag.Priority != openflow.ResetToClient {
			t.Errorf("%s: %+v, %+v", name, ethernet, tag)
		}
		if tcp.Seq != 1<<32-1 || tcp.Ack != 9 || !tcp.ACK || tcp.RST || tcp.SYN || tcp.FIN || tcp.PSH || len(tcp.Payload) != 0 || tcp.Window != 77 ||
			tcp.SrcPort != 80 || tcp.DstPort != 40000 {
			t.Errorf("%s: its header is %+v", name, tcp)
		}
		var got []byte
		for _, o := range tcp.Options {
			if o.OptionType == layers.TCPOptionKindTimestamps {
				got = o.OptionData
			}
		}
		if !bytes.Equal(got, c.packet.TCP.Timestamps) {
			t.Errorf("%s: its timestamps are %v", name, got)
		}
		if err := tcp.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
			t.Fatal(err)
		}
		if sum, err := tcp.ComputeChecksum(); err != nil || sum != 0 {
			t.Errorf("%s: its checksum is off by %#x (%v)", name, sum, err)
		}
	}
}
