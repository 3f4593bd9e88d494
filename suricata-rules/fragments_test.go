package suricatarules

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// TestFragments sends queries that are larger than a packet may be: the whole is judged.
func TestFragments(t *testing.T) {
	names := []l7.Entry{{DNS: &l7.DNS{Names: []string{"*.good.example"}}}}
	files, err := Render([]RuleSet{{ID: 5, Entries: names}, {ID: 6, Audit: true, Entries: names}, {ID: 7}})
	if err != nil {
		t.Fatal(err)
	}
	c := newCapture(t)
	parts := map[string][]int{}
	for _, vlan := range []uint16{5, 6, 7, 9} {
		for _, family := range []int{4, 6} {
			for what, payload := range map[string][]byte{
				"good": query("a.good.example"), "bad": query("a.bad.example"), "no query": bytes.Repeat([]byte("x"), 3000),
			} {
				for order, turned := range map[string]bool{"": false, ", last part first": true} {
					parts[fmt.Sprintf("%d IPv%d %s%s", vlan, family, what, order)] = c.fragments(vlan, family, turned, payload)
				}
			}
		}
	}
	// A fragment header on what is no fragment is no way past the gate.
	parts["5 IPv6 no query, atomic"] = []int{c.fragment6(5, 0, false, c.udpDatagram(6, bytes.Repeat([]byte("x"), 900)))}
	dropped := map[int]bool{}
	for _, e := range replay(t, files, c.buf.Bytes()) {
		if e.Type == "drop" {
			dropped[e.Packet] = true
		}
	}
	var passed []string
	for name, numbers := range parts {
		if !slices.ContainsFunc(numbers, func(n int) bool { return dropped[n] }) {
			passed = append(passed, name)
		}
	}
	slices.Sort(passed)
	var want []string
	for _, vlan := range []uint16{5, 6} {
		for _, family := range []int{4, 6} {
			for _, what := range []string{"bad", "good", "no query"} {
				if what == "good" || vlan == 6 {
					name := fmt.Sprintf("%d IPv%d %s", vlan, family, what)
					want = append(want, name, name+", last part first")
				}
			}
		}
	}
	if diff := cmp.Diff(want, passed); diff != "" {
		t.Errorf("what passed whole (-want +got)\n%s", diff)
	}
}

// query asks for a name, with so much padding (RFC 7830) that it is larger than a packet.
func query(name string) []byte {
	q := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1}
	for label := range bytes.SplitSeq([]byte(name), []byte(".")) {
		q = append(append(q, byte(len(label))), label...)
	}
	q = append(q, 0, 0, 1, 0, 1)
	const padding = 3000
	q = append(q, 0, 0, 41, 0x10, 0, 0, 0, 0, 0)
	q = binary.BigEndian.AppendUint16(q, padding+4)
	q = append(q, 0, 12)
	q = binary.BigEndian.AppendUint16(q, padding)
	return append(q, make([]byte, padding)...)
}

// udpDatagram is a UDP header and its payload, from a socket of its own.
func (c *capture) udpDatagram(family int, payload []byte) []byte {
	c.conns++
	udp := &layers.UDP{SrcPort: layers.UDPPort(40000 + c.conns), DstPort: 53}
	if family == 4 {
		_ = udp.SetNetworkLayerForChecksum(&layers.IPv4{SrcIP: net.IPv4(10, 9, 0, 1), DstIP: net.IPv4(10, 200, 0, 1), Protocol: layers.IPProtocolUDP})
	} else {
		_ = udp.SetNetworkLayerForChecksum(&layers.IPv6{SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2"), NextHeader: layers.IPProtocolUDP})
	}
	buf := gopacket.NewSerializeBuffer()
	_ = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, udp, gopacket.Payload(payload))
	return buf.Bytes()
}

// fragments adds a datagram in parts of 1,200 bytes and returns their packets' numbers.
func (c *capture) fragments(vlan uint16, family int, turned bool, payload []byte) (numbers []int) {
	whole := c.udpDatagram(family, payload)
	const most = 1200
	var offsets []int
	for at := 0; at < len(whole); at += most {
		offsets = append(offsets, at)
	}
	if turned {
		slices.Reverse(offsets)
	}
	for _, at := range offsets {
		end := min(at+most, len(whole))
		if family == 4 {
			numbers = append(numbers, c.fragment4(vlan, at, end < len(whole), whole[at:end]))
		} else {
			numbers = append(numbers, c.fragment6(vlan, at, end < len(whole), whole[at:end]))
		}
	}
	return numbers
}

func (c *capture) fragment4(vlan uint16, at int, more bool, data []byte) int {
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Id: uint16(c.conns), FragOffset: uint16(at / 8), Protocol: layers.IPProtocolUDP,
		SrcIP: net.IPv4(10, 9, 0, 1), DstIP: net.IPv4(10, 200, 0, 1),
	}
	if more {
		ip.Flags = layers.IPv4MoreFragments
	}
	return c.add(&layers.Ethernet{SrcMAC: clientMAC, DstMAC: serverMAC, EthernetType: layers.EthernetTypeDot1Q},
		&layers.Dot1Q{VLANIdentifier: vlan, Type: layers.EthernetTypeIPv4}, ip, gopacket.Payload(data))
}

func (c *capture) fragment6(vlan uint16, at int, more bool, data []byte) int {
	header := []byte{17, 0, 0, 0}
	binary.BigEndian.PutUint16(header[2:], uint16(at))
	if more {
		header[3] |= 1
	}
	header = binary.BigEndian.AppendUint32(header, uint32(c.conns))
	ip := &layers.IPv6{
		Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolIPv6Fragment, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2"),
	}
	return c.add(&layers.Ethernet{SrcMAC: clientMAC, DstMAC: serverMAC, EthernetType: layers.EthernetTypeDot1Q},
		&layers.Dot1Q{VLANIdentifier: vlan, Type: layers.EthernetTypeIPv6}, ip, gopacket.Payload(append(header, data...)))
}
