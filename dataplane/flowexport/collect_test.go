package flowexport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fast is a configuration for tests: only what ends, or the exporter's own end, is told of.
func fast(name string, to ...Collector) Config {
	return Config{Name: name, Collectors: to, PollInterval: 200 * time.Millisecond, ActiveTimeout: time.Hour, IdleTimeout: time.Hour}
}

// knownConnections makes connections through a Service and straight to the server, over IPv4 and IPv6, by TCP and UDP, and waits until
// conntrack counts no more packets of them. It gives what the kernel itself prints of each.
func knownConnections(t *testing.T, w *kernelWorld) []kernelLine {
	t.Helper()
	for i := range 2 {
		serve(t, w.server, netip.AddrPortFrom(serverAddr[i], 8080), 1000, 50000)
	}
	for i := range 2 {
		_ = ask(t, w.node, netip.AddrPortFrom(serviceAddr[i], 80), 1000, 50000).Close()
		_ = ask(t, w.node, netip.AddrPortFrom(serverAddr[i], 8080), 1000, 50000).Close()
		sendUDP(t, w.node, netip.AddrPortFrom(serverAddr[i], 53))
	}
	var lines []kernelLine
	until(t, "all connections are at rest", func() bool {
		lines = nil
		resting := true
		for _, text := range w.entries() {
			if l, ok := parseKernelLine(text); ok {
				lines = append(lines, l)
				resting = resting && (l.protocol != protocolTCP || strings.Contains(text, "TIME_WAIT"))
			}
		}
		return resting && len(lines) == 6
	})
	return lines
}

// kernelLine is a connection as /proc/net/nf_conntrack has it.
type kernelLine struct {
	protocol                                 uint8
	client, sent, server                     netip.AddrPort
	packets, bytes, replyPackets, replyBytes uint64
}

var kernelText = regexp.MustCompile(`^ipv[46] +\d+ \w+ +(6|17) .*?src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+) packets=(\d+) bytes=(\d+) (?:\[UNREPLIED\] )?` +
	`src=(\S+) dst=\S+ sport=(\d+) dport=\d+ packets=(\d+) bytes=(\d+)`)

func parseKernelLine(text string) (l kernelLine, ok bool) {
	m := kernelText.FindStringSubmatch(text)
	if m == nil {
		return l, false
	}
	number := func(i int) uint64 { n, _ := strconv.ParseUint(m[i], 10, 64); return n }
	at := func(a, p int) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(m[a]), uint16(number(p))) }
	return kernelLine{uint8(number(1)), at(2, 4), at(3, 5), at(8, 9), number(6), number(7), number(10), number(11)}, true
}

// checkNfdump compares what nfdump reads with what the kernel printed.
func checkNfdump(t *testing.T, flows []map[string]any, lines []kernelLine, began time.Time) {
	t.Helper()
	if len(flows) != len(lines) {
		t.Errorf("nfdump reads %d flows, not %d: %v", len(flows), len(lines), flows)
	}
	for _, l := range lines {
		family := "4"
		if l.client.Addr().Is6() {
			family = "6"
		}
		want := map[string]any{
			"proto": float64(l.protocol), "src" + family + "_addr": l.client.Addr().String(), "dst" + family + "_addr": l.sent.Addr().String(),
			"src_port": float64(l.client.Port()), "dst_port": float64(l.sent.Port()),
			"src_xlt_port": fmt.Sprint(l.client.Port()), "dst_xlt_port": fmt.Sprint(l.server.Port()),
			"in_packets": float64(l.packets), "in_bytes": float64(l.bytes),
			"observationPointID": 1.0, "observationDoaminID": float64(domain("node1")), "direction": 1.0,
		}
		if l.replyPackets > 0 {
			want["out_packets"], want["out_bytes"] = float64(l.replyPackets), float64(l.replyBytes)
		}
		if family == "4" { // nfdump 1.7.1 does not know the elements 281 and 282
			want["src4_xlt_ip"], want["dst4_xlt_ip"] = l.client.Addr().String(), l.server.Addr().String()
		}
		found := false
		for _, f := range flows {
			if f["src_port"] != want["src_port"] || f["dst"+family+"_addr"] != want["dst"+family+"_addr"] {
				continue
			}
			found = true
			for name, value := range want {
				if f[name] != value {
					t.Errorf("%v: nfdump reads %s as %v, not %v", l, name, f[name], value)
				}
			}
			checkTimes(t, f, began)
		}
		if !found {
			t.Errorf("nfdump has no flow for %+v", l)
		}
	}
}

func checkTimes(t *testing.T, f map[string]any, began time.Time) {
	t.Helper()
	var at [2]time.Time
	for i, name := range []string{"first", "last"} {
		text, _ := f[name].(string)
		var err error
		if at[i], err = time.ParseInLocation("2006-01-02T15:04:05.000", text, time.Local); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if at[i].Before(began.Add(-time.Second)) || at[i].After(time.Now().Add(time.Second)) {
			t.Errorf("%s is %s, and the test began %s", name, at[i], began)
		}
	}
	if at[1].Before(at[0]) {
		t.Errorf("a flow ends %s, before it begins %s", at[1], at[0])
	}
}

func clientEdge() *testNames {
	return &testNames{edges: map[uint16][]netip.Addr{1: {clientAddr[0], clientAddr[1]}}}
}

// nfdump reads the fields that it knows as the kernel has them: over UDP straight from the exporter, and over TCP and TLS, which nfcapd 1.7.1
// does not take, from the messages that came there.
func TestNfdumpReadsWhatTheKernelCounts(t *testing.T) {
	t.Parallel()
	w := newKernelWorld(t)
	certificate, ca := selfSigned(t)
	direct, byTCP, byTLS := newNfcapd(t), newNfcapd(t), newNfcapd(t)
	tcp, secure := newReceiver(t, TCP, nil), newReceiver(t, TLS, &tls.Config{Certificates: []tls.Certificate{certificate}})
	began := time.Now()
	c := fast("all", Collector{Name: "udp", Address: direct.address}, Collector{Name: "tcp", Address: tcp.address, Transport: TCP},
		Collector{Name: "tls", Address: secure.address, Transport: TLS, CABundle: ca, ServerName: "collector.example"})
	c.EnterpriseNumber = 99999
	names := clientEdge()
	e, stop := run(t, Options{Node: "node1", Source: w.source(), Names: func() Names { return names }}, c)
	polled(t, e)
	lines := knownConnections(t, w)
	until(t, "all are followed", func() bool { return e.Status().Connections == len(lines) })
	stop()
	for _, s := range e.Status().Collectors {
		if s.Sent != uint64(len(lines)) || s.Fault != "" || s.Waiting != 0 {
			t.Errorf("collector %s: %+v", s.Collector, s)
		}
	}
	checkNfdump(t, direct.wait(len(lines)), lines, began)
	for _, from := range []struct {
		*receiver
		to *nfcapd
	}{{tcp, byTCP}, {secure, byTLS}} {
		until(t, "all records are here", func() bool { return len(from.records()) == len(lines) })
		forward(t, from.messages(), from.to.address)
		checkNfdump(t, from.to.wait(len(lines)), lines, began)
	}
}

// forward sends messages by UDP.
func forward(t *testing.T, messages [][]byte, to string) {
	t.Helper()
	c, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, m := range messages {
		if _, err := c.Write(m); err != nil {
			t.Fatal(err)
		}
	}
}

// selfSigned makes a certificate for collector.example that is its own authority.
func selfSigned(t *testing.T) (pair tls.Certificate, authority []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"collector.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// What Open vSwitch in userspace holds reaches nfdump, too, without counts, which it does not keep.
func TestNfdumpReadsUserspaceConnections(t *testing.T) {
	t.Parallel()
	w := newUserspaceWorld(t)
	collector := newNfcapd(t)
	names := &testNames{edges: map[uint16][]netip.Addr{
		1: {w.client.Address, w.client.Address6}, 2: {w.server.Address, w.server.Address6},
	}}
	e, stop := run(t, Options{Node: "node1", Source: w.source(), Names: func() Names { return names }},
		fast("all", Collector{Name: "udp", Address: collector.address}))
	polled(t, e)
	for _, to := range []netip.Addr{w.server.Address, w.server.Address6} {
		at := netip.AddrPortFrom(to, 8080)
		serve(t, w.server.Netns, at, 10, 10)
		ask(t, w.client.Netns, at, 10, 10)
	}
	until(t, "both are followed at both edges", func() bool { return e.Status().Connections == 4 })
	stop()
	seen := map[string]bool{}
	for _, f := range collector.wait(4) {
		to := f["dst4_addr"]
		if to == nil {
			to = f["dst6_addr"]
		}
		// The client's Pod is behind edge 1, which the connection leaves by, and the server's behind edge 2.
		seen[fmt.Sprint(to, " ", f["dst_port"], " edge ", f["observationPointID"], " direction ", f["direction"], " packets ", f["in_packets"])] = true
	}
	for _, to := range []netip.Addr{w.server.Address, w.server.Address6} {
		for _, edge := range []string{"edge 1 direction 1", "edge 2 direction 0"} {
			if text := fmt.Sprintf("%s 8080 %s packets 0", to, edge); !seen[text] {
				t.Errorf("no flow %q: %v", text, seen)
			}
		}
	}
}
