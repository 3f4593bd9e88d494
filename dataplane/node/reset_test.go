package node

import (
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

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
