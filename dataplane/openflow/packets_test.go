package openflow_test

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// outgoing is a world with one Pod, 10.1.0.2, whose egress to 8080 and 53 is inspected in VLAN 2050.
func outgoing(t *testing.T) (*world, *ovstest.Pod) {
	w := newWorld(t)
	w.group("out", plan.Egress, 100, [][]plan.PortVerdict{{
		inspect(plan.TCP, 8080, "r", false), inspect(plan.UDP, 8080, "r", false), l4(plan.SCTP, 8080, plan.Deny), l4(plan.SCTP, 8081, plan.Allow)}})
	w.numbers.RuleSets["r"] = 2050
	return w, w.pod(2, "", "out")
}

// Resets, the server's refusal and its reset of an open connection, find their way back through the engine and the translation.
func TestResetsReachTheClient(t *testing.T) {
	w, client := outgoing(t)
	w.service("refused", "TCP", "10.96.0.10:80", "10.2.0.4:8080")
	w.apply()
	seen := w.Capture("sw", "any", "tcp")
	best := time.Hour
	for range 3 { // a busy machine slows one of them, hardly all
		began := time.Now()
		_, err := ovstest.Dial(client.Netns, "tcp", netip.MustParseAddrPort("10.96.0.10:80"), ovstest.From{})
		best = min(best, time.Since(began))
		if err == nil || !strings.Contains(err.Error(), syscall.ECONNREFUSED.Error()) {
			t.Errorf("connecting to a closed port gave %v\n%s", err, w.state())
		}
	}
	if best > 500*time.Millisecond {
		t.Errorf("the refusal came after %s at least: the first one is lost\n%s", best, seen.Text())
	}
}

// A SYN that is repeated goes to the endpoint that the first one went to, however many there are and whatever comes and goes.
func TestRepeatedSYNKeepsItsEndpoint(t *testing.T) {
	t.Parallel()
	w, client := outgoing(t)
	endpoints := []string{"10.2.9.1:8080", "10.2.9.2:8080", "10.2.9.3:8080", "10.2.9.4:8080", "10.2.9.5:8080"}
	w.service("silent", "TCP", "10.96.0.10:80", strings.Join(endpoints, " "))
	w.apply()
	w.IP("net", "route add blackhole 10.2.9.0/24")
	out := w.Capture("eng", ovstest.EngineB, "-Q", "out", "vlan and tcp")
	dialled := make(chan struct{})
	go func() {
		defer close(dialled)
		_, _ = ovstest.Dial(client.Netns, "tcp", netip.MustParseAddrPort("10.96.0.10:80"), ovstest.From{Timeout: 3500 * time.Millisecond})
	}()
	time.Sleep(1500 * time.Millisecond)
	w.plan.Services = nil
	w.service("silent", "TCP", "10.96.0.10:80", strings.Join(endpoints[:3], " "))
	w.apply()
	<-dialled
	var targets []string
	for _, line := range out.Lines() {
		targets = append(targets, regexp.MustCompile(`> (10\.2\.9\.\d\.8080):`).FindString(line))
	}
	if len(targets) < 3 || len(slices.Compact(targets)) != 1 {
		t.Errorf("the SYNs went to %v:\n%s", targets, out.Text())
	}
}

// Connections to a Service are spread over its endpoints; with affinity, those of one client are not.
func TestSpreadAndAffinity(t *testing.T) {
	t.Parallel()
	w, client := outgoing(t)
	endpoints := "10.2.0.3:8080 10.2.0.4:8080"
	w.service("spread", "TCP", "10.96.0.10:80", endpoints)
	w.service("sticky", "TCP", "10.96.0.11:80", endpoints)
	w.plan.Services[1].AffinitySeconds = 10800
	w.apply()
	for a := range strings.FieldsSeq(endpoints) {
		ovstest.Serve(t, w.Netns("net"), netip.MustParseAddrPort(a))
	}
	answeredBy := func(to string) map[string]int {
		servers := map[string]int{}
		for range 24 {
			c := w.dial(client, "tcp", to)
			servers[strings.Fields(w.mustAsk(c, "who"))[0]]++
			_ = c.Close()
		}
		return servers
	}
	if servers := answeredBy("10.96.0.10:80"); len(servers) != 2 {
		t.Errorf("without affinity all connections went to %v", servers)
	}
	if servers := answeredBy("10.96.0.11:80"); len(servers) != 1 {
		t.Errorf("with affinity the connections went to %v", servers)
	}
}

// Datagrams longer than the MTU pass both ways, also translated.
func TestFragments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.group("out", plan.Egress, 100, [][]plan.PortVerdict{{l4(plan.UDP, 8080, plan.Allow), l4(plan.UDP, 8081, plan.Deny)}})
	client := w.pod(2, "", "out")
	w.service("dns", "UDP", "10.96.0.10:80", "10.2.0.3:8080")
	w.service("dns6", "UDP", "[fd00:96::10]:80", "[fd00:2::3]:8080")
	w.apply()
	for _, to := range []string{"10.2.0.3:8080", "[fd00:2::3]:8080", "10.2.0.3:8081", "[fd00:2::3]:8081"} {
		ovstest.Serve(t, w.Netns("net"), netip.MustParseAddrPort(to))
	}
	long := strings.Repeat("x", 4000)
	for _, to := range []string{"10.2.0.3:8080", "10.96.0.10:80", "[fd00:2::3]:8080", "[fd00:96::10]:80"} {
		c := w.dial(client, "udp", to)
		w.mustAsk(c, "short")
		if answer := w.mustAsk(c, long); !strings.HasSuffix(answer, long) {
			t.Errorf("%s: the long answer has %d bytes", to, len(answer))
		}
	}
	// A connection may begin with them where all ports of the peer have one verdict, and to a Service.
	all := l4(plan.UDP, 1, plan.Allow)
	all.EndPort = 65535
	w.group("all", plan.Egress, 100, [][]plan.PortVerdict{{all}})
	w.group("none", plan.Egress, 100, [][]plan.PortVerdict{{l4(plan.TCP, 8080, plan.Deny)}})
	w.group("some", plan.Egress, 100, [][]plan.PortVerdict{{l4(plan.UDP, 8080, plan.Allow), l4(plan.UDP, 8081, plan.Deny)}})
	for i, group := range []string{"all", "none", "some"} {
		pod := w.pod(3+i, "", group)
		w.apply()
		for _, to := range []string{"10.96.0.10:80", "[fd00:96::10]:80", "10.2.0.3:8080", "[fd00:2::3]:8080"} {
			if group == "some" && !strings.Contains(to, "96") {
				continue
			}
			if answer := w.mustAsk(w.dial(pod, "udp", to), long); !strings.HasSuffix(answer, long) {
				t.Errorf("%s, %s: the first answer has %d bytes", group, to, len(answer))
			}
		}
	}
	// Elsewhere they must not carry it past the verdict.
	for _, to := range []string{"10.2.0.3:8081", "[fd00:2::3]:8081"} {
		c := w.dial(client, "udp", to)
		for range 2 {
			if _, err := c.AskWithin(long, 300*time.Millisecond); err == nil {
				t.Errorf("%s: a denied connection that begins with fragments passes", to)
			}
		}
		if _, err := c.AskWithin("short", 300*time.Millisecond); err == nil {
			t.Errorf("%s: a denied connection passes after it began with fragments", to)
		}
	}
	// In a direction that is not governed a connection may begin with them.
	ovstest.Serve(t, client.Netns, netip.MustParseAddrPort("10.1.0.2:7000"))
	ovstest.Serve(t, client.Netns, netip.MustParseAddrPort("[fd00:1::2]:7000"))
	for _, to := range []string{"10.1.0.2:7000", "[fd00:1::2]:7000"} {
		c, err := ovstest.Dial(w.Netns("net"), "udp", netip.MustParseAddrPort(to), ovstest.From{})
		if err != nil {
			t.Fatal(err)
		}
		if answer := w.mustAsk(c, long); !strings.HasSuffix(answer, long) {
			t.Errorf("%s: the long answer has %d bytes", to, len(answer))
		}
	}
	for _, to := range []string{"10.2.0.3:8081", "[fd00:2::3]:8081"} {
		if _, err := w.dial(client, "udp", to).AskWithin(long, 500*time.Millisecond); err == nil {
			t.Errorf("%s: a denied datagram passes in fragments", to)
		}
	}
}

// Connections that are open share the datapath's entries: there is not one for each.
func TestOpenConnectionsShareDatapathFlows(t *testing.T) {
	w, client := outgoing(t)
	w.service("web", "TCP", "10.96.0.10:80", "10.2.0.3:8080 10.2.0.4:8080")
	w.apply()
	ovstest.Serve(t, w.Netns("net"), netip.MustParseAddrPort("10.2.0.3:8080"))
	ovstest.Serve(t, w.Netns("net"), netip.MustParseAddrPort("10.2.0.4:8080"))
	count := func() int {
		return strings.Count(w.OVS("ovs-appctl", "dpctl/dump-flows", "netdev@ovs-netdev"), "recirc_id")
	}
	open := func(n int) {
		for i := range n {
			c := w.dial(client, "tcp", []string{"10.96.0.10:80", "10.2.0.3:8080", "10.2.0.4:8080"}[i%3])
			w.mustAsk(c, "hello")
		}
	}
	open(60)
	before := count()
	open(120)
	// Each of the hash's sixteen values that comes up for the first time adds two or three.
	if after := count(); after > before+50 || after > 100 {
		t.Errorf("60 connections need %d datapath flows, 180 need %d:\n%s", before, after,
			w.OVS("ovs-appctl", "dpctl/dump-flows", "netdev@ovs-netdev"))
	} else {
		t.Logf("60 connections need %d datapath flows, 180 need %d", before, after)
	}
}

// The agent's probes go through the engine, each its way, and come back to the agent, and nothing else gets in or out by the agent's port.
func TestProbe(t *testing.T) {
	t.Parallel()
	for _, engineUp := range []bool{true, false} {
		w, _ := outgoing(t)
		w.engineUp = engineUp
		w.apply()
		requests := w.Capture("eng", ovstest.EngineB, "-Q", "out")
		replies := w.Capture("eng", ovstest.EngineA, "-Q", "out")
		back := w.Capture("sw", ovstest.Agent, "-Q", "in")
		frame := func(to net.HardwareAddr, vlan uint16, last byte) []byte {
			f := append(slices.Clone(to), 2, 0, 0, 0, 0, 2, 0x81, 0, byte(vlan>>8), byte(vlan), 0x08, 0x00)
			return append(f, ipv4(netip.MustParseAddr("192.0.2.1"), netip.AddrFrom4([4]byte{192, 0, 2, last}), 17, []byte{0, 9, 0, 9, 0, 8, 0, 0})...)
		}
		for _, f := range [][]byte{
			frame(ledger.ProbeMAC(0, false), ledger.ProbeVLAN, 10), frame(ledger.ProbeMAC(0, true), ledger.ProbeVLAN, 11),
			frame(ledger.ProbeMAC(0, false), 5, 12), frame(ledger.ProbeMAC(0, true), 5, 13),
		} {
			if err := w.In("sw", func() error { return sendFrame(ovstest.Agent, f) }); err != nil {
				t.Fatal(err)
			}
		}
		if !back.WaitFor(func(s string) bool {
			return strings.Contains(s, "> 192.0.2.10.9") && strings.Contains(s, "> 192.0.2.11.9")
		}) {
			t.Errorf("engineUp=%t: the probes do not come back:\n%s", engineUp, back.Text())
		}
		for way, c := range map[string]*ovstest.Capture{"> 192.0.2.10.9": requests, "> 192.0.2.11.9": replies} {
			if !c.WaitFor(func(s string) bool { return strings.Contains(s, way) }) {
				t.Errorf("engineUp=%t: the probe %s did not go its way:\n%s", engineUp, way, c.Text())
			}
		}
		if all := requests.Text() + replies.Text() + back.Text(); strings.Contains(all, "vlan 5,") {
			t.Errorf("another frame of the agent's passes:\n%s", all)
		}
	}
}

// SCTP is judged, too.
func TestSCTP(t *testing.T) {
	t.Parallel()
	w, client := outgoing(t)
	w.service("signal", "SCTP", "10.96.0.10:9", "10.2.0.3:8081")
	w.apply()
	out := w.Capture("net", "up2", "proto", "132")
	for i, to := range []string{"10.2.0.3:8080", "10.2.0.3:8081", "10.96.0.10:9", "10.2.0.3:8080"} {
		at := netip.MustParseAddrPort(to)
		frame := append(append([]byte{2, 0, 0, 0, 0, 1}, client.Ports.MAC...), 0x08, 0x00)
		frame = append(frame, ipv4(client.Address, at.Addr(), 132, sctpInit(uint16(5000+i), at.Port()))...)
		if err := w.In("pod2", func() error { return sendFrame("eth0", frame) }); err != nil {
			t.Fatal(err)
		}
	}
	if !out.WaitFor(func(s string) bool { return strings.Contains(s, "5001 > 10.2.0.3.8081") }) {
		t.Errorf("an allowed association does not pass:\n%s\n%s", out.Text(), w.state())
	}
	if !out.WaitFor(func(s string) bool { return strings.Contains(s, "5002 > 10.2.0.3.8081") }) {
		t.Errorf("an association with a Service is not translated:\n%s\n%s", out.Text(), w.state())
	}
	if strings.Contains(out.Text(), "5000 >") || strings.Contains(out.Text(), "5003 >") {
		t.Errorf("a denied association passes:\n%s", out.Text())
	}
}

// What is not governed passes a governed edge: pings and neighbour discovery, also of long packets.
func TestUngovernedProtocols(t *testing.T) {
	t.Parallel()
	w, _ := outgoing(t)
	w.apply()
	for space, addresses := range map[string][]string{"pod2": {"10.2.0.3", "fd00:2::3"}, "net": {"10.1.0.2", "fd00:1::2"}} {
		for _, to := range addresses {
			for _, size := range []string{"56", "3000"} {
				w.Run(space, "ping", "-c2", "-i0.1", "-W2", "-q", "-s", size, to)
			}
		}
	}
}

// sendFrame sends a frame out of an interface of the present namespace.
func sendFrame(iface string, frame []byte) error {
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	at, err := net.InterfaceByName(iface)
	if err != nil {
		return err
	}
	return syscall.Sendto(fd, frame, 0, &syscall.SockaddrLinklayer{Ifindex: at.Index})
}

func ipv4(src, dst netip.Addr, protocol byte, payload []byte) []byte {
	h := []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0}
	h = append(append(h, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(payload)))
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
	return append(h, payload...)
}

func sctpInit(src, dst uint16) []byte {
	p := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, src), dst)
	p = append(p, 0, 0, 0, 0, 0, 0, 0, 0)
	p = append(p, 1, 0, 0, 20, 1, 2, 3, 4, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1) // INIT
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
	return p
}
