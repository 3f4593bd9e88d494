package replay

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// frame is one packet of the shop's traffic.
type frame struct {
	at   time.Time
	data []byte // Ethernet
}

// shop writes the traffic of testdata/objects.yaml, as it was before there was a policy.
type shop struct {
	t      *testing.T
	frames []frame
}

// dialogue is one connection.
type dialogue struct {
	*shop
	client, server         net.IP
	clientPort, serverPort layers.TCPPort
	seq, answer            uint32
}

func (s *shop) packet(parts ...gopacket.SerializableLayer) {
	s.t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...); err != nil {
		s.t.Fatal(err)
	}
	at := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC).Add(time.Duration(len(s.frames)) * 1700 * time.Microsecond)
	s.frames = append(s.frames, frame{at, bytes.Clone(buf.Bytes())})
}

func (d *dialogue) send(fromClient bool, tcp layers.TCP, payload string) {
	d.t.Helper()
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: d.client, DstIP: d.server}
	tcp.SrcPort, tcp.DstPort, tcp.Seq, tcp.Ack, tcp.Window = d.clientPort, d.serverPort, d.seq, d.answer, 65000
	if !fromClient {
		eth.SrcMAC, eth.DstMAC, ip.SrcIP, ip.DstIP = eth.DstMAC, eth.SrcMAC, ip.DstIP, ip.SrcIP
		tcp.SrcPort, tcp.DstPort, tcp.Seq, tcp.Ack = tcp.DstPort, tcp.SrcPort, tcp.Ack, tcp.Seq
	}
	if tcp.SYN && !tcp.ACK {
		tcp.Ack = 0
	}
	_ = tcp.SetNetworkLayerForChecksum(ip)
	d.packet(eth, ip, &tcp, gopacket.Payload(payload))
	took := uint32(len(payload))
	if tcp.SYN || tcp.FIN {
		took++
	}
	if fromClient {
		d.seq += took
	} else {
		d.answer += took
	}
}

func (s *shop) connect(client, server string, clientPort, serverPort layers.TCPPort) *dialogue {
	d := &dialogue{shop: s, client: net.ParseIP(client).To4(), server: net.ParseIP(server).To4(), clientPort: clientPort, serverPort: serverPort, seq: 1000, answer: 5000}
	d.send(true, layers.TCP{SYN: true}, "")
	d.send(false, layers.TCP{SYN: true, ACK: true}, "")
	d.send(true, layers.TCP{ACK: true}, "")
	return d
}

func (d *dialogue) ask(request string) {
	d.send(true, layers.TCP{ACK: true, PSH: true}, request+" HTTP/1.1\r\nHost: web.shop\r\nUser-Agent: shopper\r\n\r\n")
	d.send(false, layers.TCP{ACK: true}, "")
	answer := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\n"
	if request[:4] != "HEAD" {
		answer += "ok\n"
	}
	d.send(false, layers.TCP{ACK: true, PSH: true}, answer)
	d.send(true, layers.TCP{ACK: true}, "")
}

func (d *dialogue) close() {
	d.send(true, layers.TCP{FIN: true, ACK: true}, "")
	d.send(false, layers.TCP{FIN: true, ACK: true}, "")
	d.send(true, layers.TCP{ACK: true}, "")
}

const (
	client = "10.244.0.10"
	other  = "10.244.0.30"
	web    = "10.244.0.20"
	webIP  = "10.96.0.10" // the Service's
)

// traffic is what shop.pcap holds: on one connection that is kept alive, two public pages, a deletion, and a public page; a Pod that
// policies do not let in; a page through the Service; and metrics, which no policy governs.
func traffic(t *testing.T) []frame {
	s := &shop{t: t}
	d := s.connect(client, web, 40001, 8080)
	for _, request := range []string{"GET /public/a", "HEAD /public/b", "DELETE /admin/orders", "GET /public/c"} {
		d.ask(request)
	}
	d.close()
	d = s.connect(other, web, 40002, 8080)
	d.ask("GET /public/a")
	d.close()
	d = s.connect(client, webIP, 40003, 80)
	d.ask("GET /private")
	d.close()
	d = s.connect(client, web, 40004, 9090)
	d.ask("GET /metrics")
	d.close()
	return s.frames
}

// capture writes frames as a file of a kind: the frame of each link type, from its Ethernet frame.
func capture(t *testing.T, frames []frame, link layers.LinkType, ng bool) []byte {
	t.Helper()
	var out bytes.Buffer
	var write func(gopacket.CaptureInfo, []byte) error
	flush := func() error { return nil }
	if ng {
		w, err := pcapgo.NewNgWriter(&out, link)
		if err != nil {
			t.Fatal(err)
		}
		write, flush = w.WritePacket, w.Flush
	} else {
		w := pcapgo.NewWriter(&out)
		if err := w.WriteFileHeader(1<<16, link); err != nil {
			t.Fatal(err)
		}
		write = w.WritePacket
	}
	for _, f := range frames {
		data := f.data
		switch ip := f.data[14:]; link {
		case layers.LinkTypeRaw, layers.LinkTypeIPv4:
			data = ip
		case layers.LinkTypeLinuxSLL:
			data = append([]byte{0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0}, ip...)
		case layers.LinkTypeLinuxSLL2:
			data = append([]byte{8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0}, ip...)
		case layers.LinkTypeNull:
			data = append([]byte{2, 0, 0, 0}, ip...)
		}
		if err := write(gopacket.CaptureInfo{Timestamp: f.at, CaptureLength: len(data), Length: len(data)}, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := flush(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
