package ovstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovsdaemon"
)

// Addresses of every lab's network.
var (
	// Gateway and Gateway6 are the node's, on the bridge that all Pods hang on.
	Gateway  = netip.MustParseAddr("10.1.0.1")
	Gateway6 = netip.MustParseAddr("fd00:1::1")
	// Remote and Remote6 are hosts beyond the gateway.
	Remote  = []netip.Addr{netip.MustParseAddr("10.2.0.3"), netip.MustParseAddr("10.2.0.4")}
	Remote6 = []netip.Addr{netip.MustParseAddr("fd00:2::3"), netip.MustParseAddr("fd00:2::4")}
)

// Names of the engine's and the agent's interfaces, in the lab as on a node.
const (
	EngineA, EngineB, Agent = "mk-l7a", "mk-l7b", "mk-agent"
)

// Lab is a switch and its surroundings.
type Lab struct {
	t  testing.TB
	id string
	// Switch is the bridge mk-br0, with the engine's and the agent's ports.
	Switch *openflow.OVS
	// Daemons are the switch's programs.
	Daemons *ovsdaemon.Daemons
	// Ports are those of the engine, the agent, and the Pods' edges.
	Ports openflow.Ports
}

// Pod is a namespace behind an edge.
type Pod struct {
	// Netns is the name of its network namespace; its interface is eth0.
	Netns   string
	Address netip.Addr
	// Address6 is its IPv6 address.
	Address6 netip.Addr
	// Ports are its edge's.
	Ports openflow.EdgePorts
}

var count atomic.Int32

// NewSwitch starts a switch with an empty bridge and nothing around it.
func NewSwitch(t testing.TB) *Lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	ctx := Context(t)
	programs, err := ovsdaemon.Find(ctx)
	if err != nil {
		t.Fatal(err)
	}
	removeLeftovers(t)
	l := &Lab{t: t, id: fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), count.Add(1))}
	l.addNetns("sw")
	dir, err := os.MkdirTemp("/tmp", "mko")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	options := ovsdaemon.Options{Dir: dir, Programs: programs, Netns: "/run/netns/" + l.Netns("sw")}
	if l.Daemons, err = ovsdaemon.Start(ctx, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Daemons.Stop(); err != nil {
			t.Error(err)
		}
	})
	l.Switch = &openflow.OVS{Programs: programs.Dir, RunDir: dir, DatapathType: openflow.DatapathUserspace}
	if err := l.Switch.EnsureBridge(ctx); err != nil {
		t.Fatal(err)
	}
	return l
}

// prefix starts the names of labs' namespaces; the process's number follows.
const prefix = "mko"

// removeLeftovers removes the namespaces of tests that were killed before they could.
func removeLeftovers(t testing.TB) {
	names, err := filepath.Glob("/run/netns/" + prefix + "*-*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range names {
		name := filepath.Base(path)
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "-")
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			// Another test may be faster.
			_ = exec.Command("ip", "netns", "del", name).Run()
		}
	}
}

// New starts a switch with the node's network, and a wire in the engine's place: what goes in at one of the engine's ports comes
// out at the other.
func New(t testing.TB) *Lab {
	t.Helper()
	l := NewSwitch(t)
	l.addNetns("net")
	l.addNetns("eng")
	l.IP("net", "link add cni0 type bridge", "link set cni0 up",
		"addr add "+Gateway.String()+"/24 dev cni0", "addr add "+Gateway6.String()+"/64 dev cni0 nodad")
	for i := range Remote {
		l.IP("net", "addr add "+Remote[i].String()+"/32 dev lo", "addr add "+Remote6[i].String()+"/128 dev lo")
	}
	l.veth(EngineA+"-br", "eng", EngineA)
	l.veth(EngineB+"-br", "eng", EngineB)
	l.veth(Agent+"-br", "sw", Agent)
	l.IP("eng", "link add wire type bridge mcast_snooping 0", "link set wire up",
		"link set "+EngineA+" master wire", "link set "+EngineB+" master wire")
	l.Run("eng", "sysctl", "-qw", "net.ipv6.conf.wire.disable_ipv6=1")
	for _, end := range []string{EngineA, EngineB} {
		// Without learning the wire does not care which way an address was seen to go.
		l.Run("eng", "bridge", "link", "set", "dev", end, "learning", "off", "flood", "on")
	}
	ports := l.addPorts(EngineA+"-br", EngineB+"-br", Agent+"-br")
	l.Ports = openflow.Ports{EngineA: ports[EngineA+"-br"], EngineB: ports[EngineB+"-br"], Agent: ports[Agent+"-br"]}
	return l
}

// AddPod makes a Pod with the addresses 10.1.0.n and fd00:1::n and puts it behind an edge.
func (l *Lab) AddPod(n int) *Pod {
	l.t.Helper()
	space := fmt.Sprintf("pod%d", n)
	p := &Pod{
		Netns:    l.Netns(space),
		Address:  netip.MustParseAddr(fmt.Sprintf("10.1.0.%d", n)),
		Address6: netip.MustParseAddr(fmt.Sprintf("fd00:1::%d", n)),
	}
	p.Ports.MAC = net.HardwareAddr{0x0a, 0x58, 10, 1, 0, byte(n)}
	l.addNetns(space)
	inside, outside := fmt.Sprintf("mkp%d", n), fmt.Sprintf("mku%d", n)
	l.veth(inside, space, "eth0")
	l.veth(outside, "net", fmt.Sprintf("up%d", n))
	l.IP("net", fmt.Sprintf("link set up%d master cni0", n))
	l.IP(space, "link set eth0 address "+p.Ports.MAC.String(),
		fmt.Sprintf("addr add %s/24 dev eth0", p.Address), fmt.Sprintf("addr add %s/64 dev eth0 nodad", p.Address6),
		"route add default via "+Gateway.String(), "route add default via "+Gateway6.String())
	ports := l.addPorts(inside, outside)
	p.Ports.Pod, p.Ports.Uplink = ports[inside], ports[outside]
	return p
}

// Netns is the full name of a namespace of the lab: sw, net, eng, pod<n>.
func (l *Lab) Netns(space string) string { return l.id + "-" + space }

func (l *Lab) addNetns(space string) {
	l.t.Helper()
	name := l.Netns(space)
	run(l.t, "", "ip", "netns", "add", name)
	l.t.Cleanup(func() { run(l.t, "", "ip", "netns", "del", name) })
	l.IP(space, "link set lo up")
	if space == "net" {
		l.Run("net", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.send_redirects=0",
			"net.ipv4.conf.default.send_redirects=0")
	}
}

// veth makes a pair between the switch's namespace and another, whose ends compute their checksums themselves: one that is left to hardware reaches no capturing program.
func (l *Lab) veth(a, spaceB, b string) {
	l.t.Helper()
	l.IP("sw", fmt.Sprintf("link add %s mtu 1504 type veth peer name %s netns %s mtu 1504", a, b, l.Netns(spaceB)))
	for _, end := range [][2]string{{"sw", a}, {spaceB, b}} {
		l.Run(end[0], "ethtool", "-K", end[1], "tx", "off", "gso", "off", "gro", "off", "tso", "off")
		if end[1] != "eth0" {
			l.Run(end[0], "sysctl", "-qw", "net.ipv6.conf."+end[1]+".disable_ipv6=1")
		} else {
			l.IP(end[0], "link set eth0 mtu 1500")
		}
		l.IP(end[0], "link set "+end[1]+" up")
	}
}

func (l *Lab) addPorts(names ...string) map[string]uint32 {
	l.t.Helper()
	ports, err := l.Switch.AddPorts(Context(l.t), names...)
	if err != nil {
		l.t.Fatal(err)
	}
	return ports
}

// IP runs lines of the ip command in a namespace of the lab.
func (l *Lab) IP(space string, lines ...string) {
	l.t.Helper()
	run(l.t, strings.Join(lines, "\n")+"\n", "ip", "-n", l.Netns(space), "-batch", "-")
}

// Run runs a program in a namespace of the lab and gives its output.
func (l *Lab) Run(space string, args ...string) string {
	l.t.Helper()
	return run(l.t, "", append([]string{"ip", "netns", "exec", l.Netns(space)}, args...)...)
}

// OVS runs one of Open vSwitch's programs against the lab's switch and gives its output.
func (l *Lab) OVS(args ...string) string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	out, err := l.Daemons.Command(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// In runs f on a thread in a namespace of the lab: sockets that it opens belong there, and stay there.
func (l *Lab) In(space string, f func() error) error { return InNetns(l.Netns(space), f) }

// InNetns runs f on a thread in a named network namespace.
func InNetns(name string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and with it its namespace
		target, err := netns.GetFromName(name)
		if err != nil {
			done <- fmt.Errorf("opening network namespace %s: %w", name, err)
			return
		}
		defer func() { _ = target.Close() }()
		if err := netns.Set(target); err != nil {
			done <- fmt.Errorf("entering network namespace %s: %w", name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Context gives a context that ends with the test, or after a minute.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func run(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v: %s\n%s", args, err, stderr.String(), stdin)
	}
	return out.String()
}
