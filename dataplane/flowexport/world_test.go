package flowexport

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
)

// zone1 is the zone of the edge number 1.
const zone1 = ledger.ZoneBase + 1

// kernelWorld is two namespaces, of which the first tracks connections in zone1, counts them, and translates Services.
type kernelWorld struct {
	t            testing.TB
	node, server string
}

// Addresses of a kernelWorld, in each family: the client's, the server's, and of a Service whose port 80 is the server's 8080.
var (
	clientAddr  = [2]netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd09::1")}
	serverAddr  = [2]netip.Addr{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd09::2")}
	serviceAddr = [2]netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd96::1")}
)

var worlds atomic.Int32

func newKernelWorld(t testing.TB) *kernelWorld {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	id := fmt.Sprintf("mkf%d-%d", os.Getpid(), worlds.Add(1))
	w := &kernelWorld{t: t, node: id + "-a", server: id + "-b"}
	for _, name := range []string{w.node, w.server} {
		w.run("", "ip", "netns", "add", name)
		t.Cleanup(func() { w.run("", "ip", "netns", "del", name) })
		w.run("", "ip", "-n", name, "link", "set", "lo", "up")
	}
	w.run("", "ip", "link", "add", "va", "netns", w.node, "type", "veth", "peer", "name", "vb", "netns", w.server)
	for i, end := range [][2]string{{w.node, "va"}, {w.server, "vb"}} {
		addrs := [2]netip.Addr{clientAddr[0], clientAddr[1]}
		if i == 1 {
			addrs = serverAddr
		}
		w.run("", "ip", "-n", end[0], "addr", "add", addrs[0].String()+"/24", "dev", end[1])
		w.run("", "ip", "-n", end[0], "addr", "add", addrs[1].String()+"/64", "dev", end[1], "nodad")
		w.run("", "ip", "-n", end[0], "link", "set", end[1], "up")
	}
	w.run("", "ip", "-n", w.node, "route", "add", serviceAddr[0].String(), "via", serverAddr[0].String())
	w.run("", "ip", "-n", w.node, "-6", "route", "add", serviceAddr[1].String(), "via", serverAddr[1].String())
	w.in(w.node, "sysctl", "-qw", "net.netfilter.nf_conntrack_acct=1", "net.netfilter.nf_conntrack_timestamp=1")
	w.nft(fmt.Sprintf(`
table inet zones {
  chain out { type filter hook output priority raw; ct zone set %[1]d; }
  chain in { type filter hook prerouting priority raw; ct zone set %[1]d; }
}
table inet nat {
  chain out {
    type nat hook output priority -100;
    ip daddr %[2]s tcp dport 80 dnat ip to %[3]s:8080
    ip6 daddr %[4]s tcp dport 80 dnat ip6 to [%[5]s]:8080
  }
}`, zone1, serviceAddr[0], serverAddr[0], serviceAddr[1], serverAddr[1]))
	return w
}

func (w *kernelWorld) source() *Kernel { return &Kernel{Netns: "/run/netns/" + w.node} }

func (w *kernelWorld) nft(text string) { w.run(text, "ip", "netns", "exec", w.node, "nft", "-f", "-") }

func (w *kernelWorld) in(space string, args ...string) string {
	return w.run("", append([]string{"ip", "netns", "exec", space}, args...)...)
}

func (w *kernelWorld) run(stdin string, args ...string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// entries are the lines of conntrack's table in the node's namespace: what the kernel says in another way.
func (w *kernelWorld) entries() []string {
	return strings.Split(strings.TrimSpace(w.in(w.node, "cat", "/proc/net/nf_conntrack")), "\n")
}

// serve answers each connection: it reads so many bytes, writes so many, and waits for the client's end.
func serve(t testing.TB, space string, at netip.AddrPort, takes, gives int) {
	t.Helper()
	err := ovstest.InNetns(space, func() error {
		l, err := net.Listen("tcp", at.String())
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					if _, err := io.ReadFull(c, make([]byte, takes)); err == nil {
						_, _ = c.Write(make([]byte, gives))
						_, _ = io.Copy(io.Discard, c)
					}
				}()
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ask opens a connection, writes so many bytes, reads so many, and leaves it open until the test closes it or ends.
func ask(t testing.TB, space string, to netip.AddrPort, gives, takes int) net.Conn {
	t.Helper()
	var c net.Conn
	err := ovstest.InNetns(space, func() (err error) {
		c, err = net.DialTimeout("tcp", to.String(), patience)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(make([]byte, gives)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, takes)); err != nil {
		t.Fatal(err)
	}
	return c
}

// rawPacket sends one packet of a protocol from a namespace: an echo request, the first chunk of an SCTP association, GRE.
func rawPacket(t testing.TB, space string, protocol uint8, to netip.Addr) {
	t.Helper()
	var packet []byte
	switch protocol {
	case protocolGRE:
		packet = []byte{0, 0, 0x08, 0, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}
	case protocolSCTP:
		packet = make([]byte, 12+20)
		binary.BigEndian.PutUint16(packet[0:], 4000)
		binary.BigEndian.PutUint16(packet[2:], 5000)
		packet[12] = 1 // INIT
		binary.BigEndian.PutUint16(packet[14:], 20)
		binary.BigEndian.PutUint32(packet[16:], 7)
		binary.BigEndian.PutUint32(packet[20:], 65536)
		binary.BigEndian.PutUint16(packet[24:], 1)
		binary.BigEndian.PutUint16(packet[26:], 1)
		binary.LittleEndian.PutUint32(packet[8:], crc32.Checksum(packet, crc32.MakeTable(crc32.Castagnoli)))
	case protocolICMP:
		packet = []byte{8, 0, 0, 0, 0, 7, 0, 1}
		binary.BigEndian.PutUint16(packet[2:], ^uint16(0x0800+7+1))
	case protocolUDP:
		sendUDP(t, space, netip.AddrPortFrom(to, 9))
		return
	}
	err := ovstest.InNetns(space, func() error {
		c, err := net.DialIP(fmt.Sprintf("ip4:%d", protocol), nil, &net.IPAddr{IP: to.AsSlice()})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(packet)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func sendUDP(t testing.TB, space string, to netip.AddrPort) {
	t.Helper()
	err := ovstest.InNetns(space, func() error {
		c, err := net.Dial("udp", to.String())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("hello"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// userspaceWorld is a switch in userspace that tracks all connections of two Pods, each in a zone of its own.
type userspaceWorld struct {
	*ovstest.Lab
	client, server *ovstest.Pod
}

func newUserspaceWorld(t testing.TB) *userspaceWorld {
	t.Helper()
	l := ovstest.New(t)
	w := &userspaceWorld{l, l.AddPod(10), l.AddPod(11)}
	w.flow("priority=0,actions=drop") // not NORMAL: the engine's wire makes a ring
	for i, p := range []*ovstest.Pod{w.client, w.server} {
		for _, way := range [][2]uint32{{p.Ports.Pod, p.Ports.Uplink}, {p.Ports.Uplink, p.Ports.Pod}} {
			w.flow(fmt.Sprintf("priority=5,in_port=%d,actions=output:%d", way[0], way[1]))
			w.flow(fmt.Sprintf("priority=10,in_port=%d,ip,actions=ct(commit,zone=%d),output:%d", way[0], zone1+i, way[1]))
			for _, protocol := range []string{"tcp6", "udp6"} { // not neighbour discovery
				w.flow(fmt.Sprintf("priority=10,in_port=%d,%s,actions=ct(commit,zone=%d),output:%d", way[0], protocol, zone1+i, way[1]))
			}
		}
	}
	return w
}

func (w *userspaceWorld) flow(text string) {
	w.OVS("ovs-ofctl", "-OOpenFlow15", "add-flow", openflow.BridgeName, text)
}

func (w *userspaceWorld) source() *Userspace { return &Userspace{Switch: w.Switch} }

// testNames are names that a test knows.
type testNames struct {
	pods     map[netip.Addr]Pod
	edges    map[uint16][]netip.Addr
	services map[netip.AddrPort]string
	behind   map[netip.AddrPort]netip.AddrPort
	policies []string
}

func (n *testNames) Pod(a netip.Addr) Pod                      { return n.pods[a] }
func (n *testNames) Edges() map[uint16][]netip.Addr            { return n.edges }
func (n *testNames) Service(at netip.AddrPort, _ uint8) string { return n.services[at] }
func (n *testNames) Policies(uint16, uint32) []string          { return n.policies }
func (n *testNames) ClientBehind(source, _ netip.AddrPort, _ uint8) netip.AddrPort {
	return n.behind[source]
}

// run runs an exporter until the test ends, or until the function that it gives is called, which returns once everything was told.
func run(t testing.TB, o Options, configs ...Config) (*Exporter, func()) {
	t.Helper()
	e := New(o)
	e.Configure(configs)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { e.Run(ctx); close(done) }()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return e, stop
}

// until waits for a condition.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// polled waits until the exporter has looked at conntrack once: what is there then is older than it.
func polled(t testing.TB, e *Exporter) {
	t.Helper()
	until(t, "the exporter has looked at conntrack", func() bool { return e.Status().PollSeconds > 0 })
	if s := e.Status(); s.PollError != "" {
		t.Fatal(s.PollError)
	}
}

// removeWorlds removes what tests have left that were killed.
func removeWorlds() {
	names, _ := filepath.Glob("/run/netns/mkf*-*")
	for _, path := range names {
		name := filepath.Base(path)
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, "mkf"), "-")
		if _, err := os.Stat("/proc/" + pid); os.IsNotExist(err) {
			_ = exec.Command("ip", "netns", "del", name).Run()
		}
	}
}

func TestMain(m *testing.M) {
	removeWorlds()
	os.Exit(m.Run())
}
