package clientip

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// frame makes a frame with right checksums.
func frame(t *testing.T, from, to string, transport gopacket.SerializableLayer, extensions ...gopacket.SerializableLayer) []byte {
	t.Helper()
	source, destination := netip.MustParseAddr(from), netip.MustParseAddr(to)
	ethernet := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	protocol := map[gopacket.LayerType]layers.IPProtocol{
		layers.LayerTypeTCP: layers.IPProtocolTCP, layers.LayerTypeUDP: layers.IPProtocolUDP, layers.LayerTypeSCTP: layers.IPProtocolSCTP,
		layers.LayerTypeICMPv4: layers.IPProtocolICMPv4,
	}[transport.LayerType()]
	var ip gopacket.NetworkLayer
	if source.Is4() {
		ip = &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: source.AsSlice(), DstIP: destination.AsSlice()}
	} else {
		ethernet.EthernetType = layers.EthernetTypeIPv6
		v6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: protocol, SrcIP: source.AsSlice(), DstIP: destination.AsSlice()}
		if len(extensions) > 0 {
			v6.NextHeader = layers.IPProtocolIPv6Destination
		}
		ip = v6
	}
	if l, ok := transport.(interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}); ok {
		if err := l.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
	}
	all := append(append([]gopacket.SerializableLayer{ethernet, ip.(gopacket.SerializableLayer)}, extensions...), transport, gopacket.Payload("an odd load"))
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A packet that gets another source address equals one that was made with it, byte for byte.
func TestSetSource(t *testing.T) {
	for _, c := range []struct{ from, to, client string }{
		{"10.244.1.1", "10.244.1.10", "198.51.100.7"}, {"0.0.0.1", "10.244.1.10", "255.255.255.255"},
		{"fd00:244:1::1", "fd00:244:1::a", "2001:db8:7::7"}, {"fd00::", "fd00:244:1::a", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	} {
		for name, transport := range map[string]gopacket.SerializableLayer{
			"TCP": &layers.TCP{SrcPort: 40000, DstPort: 8080, SYN: true, Window: 64240}, "UDP": &layers.UDP{SrcPort: 40000, DstPort: 8080},
			"SCTP": &layers.SCTP{SrcPort: 40000, DstPort: 8080},
		} {
			got := frame(t, c.from, c.to, transport)
			p, ok := parse(got)
			if !ok || p.Source != netip.AddrPortFrom(netip.MustParseAddr(c.from), 40000) ||
				p.Destination != netip.AddrPortFrom(netip.MustParseAddr(c.to), 8080) {
				t.Fatalf("%s from %s: read as %+v, %t", name, c.from, p.Connection, ok)
			}
			p.setSource(netip.MustParseAddr(c.client))
			if want := frame(t, c.client, c.to, transport); !bytes.Equal(got, want) {
				t.Errorf("%s from %s as from %s:\n%x, not\n%x", name, c.from, c.client, got, want)
			}
		}
	}
}

// A datagram without a checksum stays one.
func TestSetSourceWithoutChecksum(t *testing.T) {
	got := frame(t, "10.244.1.1", "10.244.1.10", &layers.UDP{SrcPort: 40000, DstPort: 53})
	got[14+20+6], got[14+20+7] = 0, 0
	p, ok := parse(got)
	if !ok {
		t.Fatal("it is not read")
	}
	p.setSource(netip.MustParseAddr("198.51.100.7"))
	if got[14+20+6] != 0 || got[14+20+7] != 0 {
		t.Error("it has a checksum now")
	}
}

func TestParseIPv6Extension(t *testing.T) {
	options := &layers.IPv6Destination{}
	options.NextHeader = layers.IPProtocolTCP
	options.Options = []*layers.IPv6DestinationOption{{OptionType: 1, OptionLength: 4, ActualLength: 6, OptionData: make([]byte, 4)}}
	got := frame(t, "fd00::1", "fd00::2", &layers.TCP{SrcPort: 40000, DstPort: 8080, SYN: true}, options)
	if p, ok := parse(got); !ok || p.Source.Port() != 40000 || p.Destination.Port() != 8080 {
		t.Errorf("read as %+v, %t", p.Connection, ok)
	}
}

// What is cut short or no first packet of a connection is not read, and nothing panics.
func TestParseRefuses(t *testing.T) {
	for _, from := range []string{"10.244.1.1", "fd00::1"} {
		to := map[string]string{"10.244.1.1": "10.244.1.10", "fd00::1": "fd00::2"}[from]
		whole := frame(t, from, to, &layers.TCP{SrcPort: 40000, DstPort: 8080, SYN: true})
		headers := len(whole) - len("an odd load")
		for n := range headers - 2 {
			if _, ok := parse(whole[:n]); ok {
				t.Errorf("%d bytes from %s are read", n, from)
			}
		}
	}
	fragment := frame(t, "10.244.1.1", "10.244.1.10", &layers.UDP{SrcPort: 40000, DstPort: 53})
	fragment[14+6] |= 0x20 // more fragments
	if _, ok := parse(fragment); ok {
		t.Error("a fragment is read")
	}
	if _, ok := parse(frame(t, "10.244.1.1", "10.244.1.10", &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)})); ok {
		t.Error("a ping is read")
	}
}

// FuzzParse gives parse and setSource whatever a stranger may send.
func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add(append(make([]byte, 12), 0x08, 0x00, 0x4f, 0, 0, 60))
	f.Add(append(make([]byte, 12), 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 60, 64))
	f.Fuzz(func(t *testing.T, frame []byte) {
		p, ok := parse(frame)
		if !ok {
			return
		}
		length := len(frame)
		client := netip.MustParseAddr("198.51.100.7")
		if p.Source.Addr().Is6() {
			client = netip.MustParseAddr("2001:db8::7")
		}
		destination := p.Destination
		p.setSource(client)
		again, ok := parse(frame)
		if len(frame) != length || !ok || again.Source != netip.AddrPortFrom(client, p.Source.Port()) || again.Destination != destination {
			t.Errorf("%x is now %+v", frame, again.Connection)
		}
	})
}
