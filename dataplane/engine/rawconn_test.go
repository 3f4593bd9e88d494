package engine

import (
	"encoding/binary"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/rawsocket"
)

// rawNet sends single packets through an engine and tells of each whether it passed. Behind each goes a marker that always passes, so
// that nothing needs to be waited for that may not come.
type rawNet struct {
	t      testing.TB
	sides  [2]*rawsocket.Socket // the bridge's ends: the client's and the server's
	conns  int
	number uint16

	mu      sync.Mutex
	arrived map[uint16][]byte // frames by their IPv4 identification
	markers chan uint16
}

// Nobody's MAC addresses, so that no kernel answers.
var rawClientMAC, rawServerMAC = net.HardwareAddr{2, 0, 0, 0, 9, 1}, net.HardwareAddr{2, 0, 0, 0, 9, 2}

func (n *testNet) raw(t testing.TB) *rawNet {
	t.Helper()
	r := &rawNet{t: t, arrived: map[uint16][]byte{}, markers: make(chan uint16, 64)}
	for i, name := range []string{"mk-l7a-br", "mk-l7b-br"} {
		s, err := rawsocket.Open(n.node, name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		r.sides[i] = s
		go pump(s, r.take)
	}
	return r
}

func (r *rawNet) take(f rawsocket.Frame) {
	if len(f.Data) < 34 || f.Data[10] != rawClientMAC[4] { // of the frame's source
		return
	}
	number := binary.BigEndian.Uint16(f.Data[18:])
	if f.VLAN == ledger.ProbeVLAN {
		r.markers <- number
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arrived[number] = append([]byte(nil), f.Data...)
}

// send sends a packet and returns the frame that arrived, nil if none did.
func (r *rawNet) send(toServer bool, vlan uint16, ip layers.IPv4, transport gopacket.SerializableLayer, payload []byte) []byte {
	r.t.Helper()
	r.number++
	number, side := r.number, 1
	if toServer {
		side = 0
	}
	ip.Id = number
	frame := r.frame(toServer, vlan, ip, transport, payload)
	marker := r.frame(toServer, ledger.ProbeVLAN, layers.IPv4{Version: 4, TTL: 64, Id: number, SrcIP: probeSrc.AsSlice(), DstIP: probeDst.AsSlice()},
		&layers.UDP{SrcPort: 50_000, DstPort: probePort}, nil)
	if err := r.sides[side].Write(frame); err != nil {
		r.t.Fatal(err)
	}
	deadline := time.After(patience)
	for {
		if err := r.sides[side].Write(marker); err != nil {
			r.t.Fatal(err)
		}
		again := time.After(2 * time.Second)
		for waiting := true; waiting; {
			select {
			case got := <-r.markers:
				if got == number {
					r.mu.Lock()
					defer r.mu.Unlock()
					arrived := r.arrived[number]
					delete(r.arrived, number)
					return arrived
				}
			case <-again:
				waiting = false
			case <-deadline:
				r.t.Fatal("the engine does not let a marker through")
			}
		}
	}
}

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

func (r *rawNet) frame(toServer bool, vlan uint16, ip layers.IPv4, transport gopacket.SerializableLayer, payload []byte) []byte {
	r.t.Helper()
	eth := &layers.Ethernet{SrcMAC: rawServerMAC, DstMAC: rawClientMAC, EthernetType: layers.EthernetTypeDot1Q}
	if toServer {
		eth.SrcMAC, eth.DstMAC = eth.DstMAC, eth.SrcMAC
	}
	switch l := transport.(type) {
	case *layers.TCP:
		ip.Protocol = layers.IPProtocolTCP
		_ = l.SetNetworkLayerForChecksum(&ip)
	case *layers.UDP:
		ip.Protocol = layers.IPProtocolUDP
		_ = l.SetNetworkLayerForChecksum(&ip)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		eth, &layers.Dot1Q{VLANIdentifier: vlan, Type: layers.EthernetTypeIPv4}, &ip, transport, gopacket.Payload(payload)); err != nil {
		r.t.Fatal(err)
	}
	return buf.Bytes()
}

// rawConn is a TCP connection of which the test sends each packet. The server's side behaves as a kernel does: it acknowledges what has
// arrived without gaps, and of bytes that come twice it takes the first.
type rawConn struct {
	r              *rawNet
	vlan           uint16
	client, server net.IP
	port           layers.TCPPort // the client's
	got            map[int]byte   // what arrived at the server, by its place
	next           int            // up to there without gaps
	answered       uint32         // bytes that the server has sent
}

const rawSeq, rawAnswer = 1000, 5000

// conn makes a connection that is not opened yet. Each has a client of its own, and a server of its own unless one is given.
func (r *rawNet) conn(vlan uint16, server net.IP) *rawConn {
	r.conns++
	k := &rawConn{r: r, vlan: vlan, client: net.IPv4(10, 20, byte(r.conns>>8), byte(r.conns)).To4(), server: server, port: 40_000, got: map[int]byte{}}
	if server == nil {
		k.server = net.IPv4(10, 30, byte(r.conns>>8), byte(r.conns)).To4()
		if vlan >= ledger.EgressFirst {
			k.client, k.server = k.server, k.client
		}
	}
	return k
}

func (k *rawConn) open() {
	k.packet(true, layers.TCP{Seq: rawSeq - 1, SYN: true}, nil)
	k.packet(false, layers.TCP{Seq: rawAnswer - 1, Ack: rawSeq, SYN: true, ACK: true}, nil)
	k.packet(true, layers.TCP{Seq: rawSeq, Ack: rawAnswer, ACK: true}, nil)
}

func (k *rawConn) packet(toServer bool, tcp layers.TCP, payload []byte) []byte {
	k.r.t.Helper()
	tcp.SrcPort, tcp.DstPort, tcp.Window = 80, k.port, 65_000
	ip := layers.IPv4{Version: 4, TTL: 64, SrcIP: k.server, DstIP: k.client}
	if toServer {
		tcp.SrcPort, tcp.DstPort = tcp.DstPort, tcp.SrcPort
		ip.SrcIP, ip.DstIP = ip.DstIP, ip.SrcIP
	}
	return k.r.send(toServer, k.vlan, ip, &tcp, payload)
}

// segment sends bytes of the client's stream, and tells whether they arrived.
func (k *rawConn) segment(from int, data []byte) bool {
	k.r.t.Helper()
	frame := k.packet(true, layers.TCP{Seq: rawSeq + uint32(from), Ack: rawAnswer + k.answered, ACK: true, PSH: true}, data)
	if frame == nil {
		return false
	}
	// The engine may have put other bytes into it: those that it has seen first.
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !ok {
		k.r.t.Fatalf("what arrived is no TCP: %v", p)
	}
	for i, b := range tcp.Payload {
		if _, have := k.got[from+i]; !have {
			k.got[from+i] = b
		}
	}
	before := k.next
	for _, have := k.got[k.next]; have; _, have = k.got[k.next] {
		k.next++
	}
	if k.next > before {
		k.packet(false, layers.TCP{Seq: rawAnswer + k.answered, Ack: rawSeq + uint32(k.next), ACK: true}, nil)
	}
	return true
}

// answer sends a response from the server, and tells whether it arrived.
func (k *rawConn) answer() bool {
	k.r.t.Helper()
	const data = "HTTP/1.1 204 No Content\r\n\r\n"
	tcp := layers.TCP{Seq: rawAnswer + k.answered, Ack: rawSeq + uint32(k.next), ACK: true, PSH: true}
	k.answered += uint32(len(data))
	return k.packet(false, tcp, []byte(data)) != nil
}

// read gives what the server can read.
func (k *rawConn) read() []byte {
	data := make([]byte, k.next)
	for i := range data {
		data[i] = k.got[i]
	}
	return data
}
