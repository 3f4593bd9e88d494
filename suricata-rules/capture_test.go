package suricatarules

import (
	"bytes"
	"cmp"
	"net"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// capture writes packets as they pass the engine, tagged with a rule set's VLAN id.
type capture struct {
	t       testing.TB
	buf     bytes.Buffer
	w       *pcapgo.Writer
	packets int
	conns   int
}

var (
	clientMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	serverMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

func newCapture(t testing.TB) *capture {
	c := &capture{t: t}
	c.w = pcapgo.NewWriter(&c.buf)
	if err := c.w.WriteFileHeader(1<<18, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	return c
}

// endpoint is a client with a connection of its own.
type endpoint struct {
	c      *capture
	vlan   uint16
	client net.IP
	port   uint16 // the server's
}

func (c *capture) endpoint(vlan, port uint16) endpoint {
	c.conns++
	n := c.conns
	return endpoint{c, vlan, net.IPv4(10, byte(1+n>>16), byte(n>>8), byte(n)).To4(), port}
}

// write adds one packet and returns its number, from 1.
func (e endpoint) write(toServer bool, transport gopacket.SerializableLayer, payload []byte) int {
	e.c.t.Helper()
	server := net.IPv4(10, 200, 0, 1).To4()
	eth := &layers.Ethernet{SrcMAC: serverMAC, DstMAC: clientMAC, EthernetType: layers.EthernetTypeDot1Q}
	ip := &layers.IPv4{Version: 4, TTL: 64, SrcIP: server, DstIP: e.client}
	if toServer {
		eth.SrcMAC, eth.DstMAC = clientMAC, serverMAC
		ip.SrcIP, ip.DstIP = e.client, server
	}
	ip.Protocol = layers.IPProtocolICMPv4
	switch l := transport.(type) {
	case *layers.TCP:
		ip.Protocol = layers.IPProtocolTCP
		_ = l.SetNetworkLayerForChecksum(ip)
	case *layers.UDP:
		ip.Protocol = layers.IPProtocolUDP
		_ = l.SetNetworkLayerForChecksum(ip)
	}
	return e.c.add(eth, &layers.Dot1Q{VLANIdentifier: e.vlan, Type: layers.EthernetTypeIPv4}, ip, transport, gopacket.Payload(payload))
}

// add adds one packet and returns its number, from 1.
func (c *capture) add(parts ...gopacket.SerializableLayer) int {
	c.t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...); err != nil {
		c.t.Fatal(err)
	}
	data := buf.Bytes()
	at := time.Unix(1_700_000_000, 0).Add(time.Duration(c.packets) * 100 * time.Microsecond)
	if err := c.w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(data), Length: len(data)}, data); err != nil {
		c.t.Fatal(err)
	}
	c.packets++
	return c.packets
}

// udp adds one datagram; all of an endpoint's go out by one socket.
func (e endpoint) udp(toServer bool, payload []byte) int {
	client, server := layers.UDPPort(40000), layers.UDPPort(e.port)
	u := &layers.UDP{SrcPort: server, DstPort: client}
	if toServer {
		u.SrcPort, u.DstPort = client, server
	}
	return e.write(toServer, u, payload)
}

// conn is an open TCP connection.
type conn struct {
	endpoint
	sent   []byte // by the client
	seq    uint32 // the client's first
	answer uint32 // the server's next
	// segments are the client's, in order.
	segments []segment
}

// segment is a run of the client's bytes that one packet carried.
type segment struct{ from, to, packet int }

func (c *capture) connect(vlan, port uint16) *conn {
	k := &conn{endpoint: c.endpoint(vlan, port), seq: 1000, answer: 5000}
	k.packet(true, layers.TCP{Seq: 999, SYN: true}, nil)
	k.packet(false, layers.TCP{Seq: 4999, Ack: 1000, SYN: true, ACK: true}, nil)
	k.packet(true, layers.TCP{Seq: 1000, Ack: 5000, ACK: true}, nil)
	return k
}

func (k *conn) packet(toServer bool, tcp layers.TCP, payload []byte) int {
	tcp.SrcPort, tcp.DstPort, tcp.Window = layers.TCPPort(k.port), 40000, cmp.Or(tcp.Window, 65000)
	if toServer {
		tcp.SrcPort, tcp.DstPort = tcp.DstPort, tcp.SrcPort
	}
	return k.write(toServer, &tcp, payload)
}

// send adds one segment from the client. Until the engine can know the protocol it drops segments, so a client's
// retransmission of all that it sent follows.
func (k *conn) send(data []byte) {
	const most = 32000 // bytes in a packet
	for len(data) > most {
		k.send(data[:most])
		data = data[most:]
	}
	from := len(k.sent)
	k.sent = append(k.sent, data...)
	k.segment(from, len(k.sent))
	if from > 0 && from < 24 {
		k.segment(0, len(k.sent))
	}
	k.packet(false, layers.TCP{Seq: k.answer, Ack: k.seq + uint32(len(k.sent)), ACK: true}, nil)
}

// again sends all bytes from that one on once more.
func (k *conn) again(from int) {
	for ; from < len(k.sent); from += 30000 {
		k.segment(from, min(from+30000, len(k.sent)))
	}
}

func (k *conn) segment(from, to int) {
	n := k.packet(true, layers.TCP{Seq: k.seq + uint32(from), Ack: k.answer, ACK: true, PSH: true}, k.sent[from:to])
	k.segments = append(k.segments, segment{from, to, n})
}

// reply adds one segment from the server.
func (k *conn) reply(data []byte) {
	k.packet(false, layers.TCP{Seq: k.answer, Ack: k.seq + uint32(len(k.sent)), ACK: true, PSH: true}, data)
	k.answer += uint32(len(data))
}

func (k *conn) close() {
	end := k.seq + uint32(len(k.sent))
	k.packet(true, layers.TCP{Seq: end, Ack: k.answer, FIN: true, ACK: true}, nil)
	k.packet(false, layers.TCP{Seq: k.answer, Ack: end + 1, FIN: true, ACK: true}, nil)
	k.packet(true, layers.TCP{Seq: end + 1, Ack: k.answer + 1, ACK: true}, nil)
}

// delivered tells which of the client's bytes some packet carried through the engine.
func (k *conn) delivered(dropped map[int]string) []bool {
	arrived := make([]bool, len(k.sent))
	for _, s := range k.segments {
		if _, lost := dropped[s.packet]; !lost {
			for i := s.from; i < s.to; i++ {
				arrived[i] = true
			}
		}
	}
	return arrived
}
