package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/rawsocket"
)

// testNet is a client, a server, and an engine's interfaces between them, each in a network namespace of its own:
//
//	client c0 ── c0w [node: wire] mk-l7a-br ── mk-l7a (engine) mk-l7b ── mk-l7b-br [wire] s0w ── s0 server
//
// The wire does what the bridge does: it tags what it leads into the engine and untags what comes out. The client is 10.N.0.1 and
// the server 10.N.0.2, and N is the VLAN id, for N of testVLANs.
type testNet struct {
	t                    testing.TB
	node, client, server string            // paths of network namespaces
	agentPeer            *rawsocket.Socket // the bridge's end of mk-agent
}

var testVLANs = []int{5, 6, 7, 8, 9}

func requireSuricata(t testing.TB) Binary {
	t.Helper()
	b, err := Find(t.Context())
	if err != nil {
		t.Fatalf("these tests need the real Suricata: run hack/install-deps.sh\n%v", err)
	}
	return b
}

func newTestNet(t testing.TB) *testNet {
	t.Helper()
	n := &testNet{t: t}
	for name, path := range map[string]*string{"n": &n.node, "c": &n.client, "s": &n.server} {
		ns := fmt.Sprintf("mkengine-%d-%s", os.Getpid(), name)
		_ = exec.Command("ip", "netns", "del", ns).Run()
		run(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
		*path = "/run/netns/" + ns
	}
	node, client, server := filepath.Base(n.node), filepath.Base(n.client), filepath.Base(n.server)
	for _, pair := range [][4]string{
		{node, "mk-l7a", node, "mk-l7a-br"}, {node, "mk-l7b", node, "mk-l7b-br"}, {node, "mk-agent", node, "mk-agent-br"},
		{client, "c0", node, "c0w"}, {server, "s0", node, "s0w"},
	} {
		run(t, "ip", "-n", pair[0], "link", "add", pair[1], "type", "veth", "peer", "name", pair[3], "netns", pair[2])
		for i := 0; i < 4; i += 2 {
			run(t, "ip", "netns", "exec", pair[i], "sysctl", "-qw", "net.ipv6.conf."+pair[i+1]+".disable_ipv6=1")
			run(t, "ip", "netns", "exec", pair[i], "ethtool", "-K", pair[i+1], "tx", "off", "gso", "off", "gro", "off", "tso", "off")
			run(t, "ip", "-n", pair[i], "link", "set", pair[i+1], "up")
		}
	}
	run(t, "ip", "-n", client, "link", "set", "c0", "address", "02:00:00:00:00:01")
	run(t, "ip", "-n", server, "link", "set", "s0", "address", "02:00:00:00:00:02")
	for _, vlan := range testVLANs {
		run(t, "ip", "-n", client, "addr", "add", fmt.Sprintf("10.%d.0.1/24", vlan), "dev", "c0")
		run(t, "ip", "-n", server, "addr", "add", fmt.Sprintf("10.%d.0.2/24", vlan), "dev", "s0")
		run(t, "ip", "-n", client, "neigh", "add", fmt.Sprintf("10.%d.0.2", vlan), "lladdr", "02:00:00:00:00:02", "dev", "c0")
		run(t, "ip", "-n", server, "neigh", "add", fmt.Sprintf("10.%d.0.1", vlan), "lladdr", "02:00:00:00:00:01", "dev", "s0")
	}
	n.wire()
	return n
}

// wire connects the ports, until the test ends.
func (n *testNet) wire() {
	open := func(name string) *rawsocket.Socket {
		s, err := rawsocket.Open(n.node, name)
		if err != nil {
			n.t.Fatal(err)
		}
		n.t.Cleanup(func() { _ = s.Close() })
		return s
	}
	a, b, agent, client, server := open("mk-l7a-br"), open("mk-l7b-br"), open("mk-agent-br"), open("c0w"), open("s0w")
	n.agentPeer = agent
	go pump(client, func(f rawsocket.Frame) { toEngine(f, a) })
	go pump(server, func(f rawsocket.Frame) { toEngine(f, b) })
	go pump(agent, func(f rawsocket.Frame) {
		if bytes.Equal(f.Data[:6], ledger.ProbeMAC(0, true)) {
			toEngine(f, b)
			return
		}
		toEngine(f, a)
	})
	fromEngine := func(from, to *rawsocket.Socket) {
		pump(from, func(f rawsocket.Frame) {
			if f.VLAN == ledger.ProbeVLAN {
				_ = agent.Write(rawsocket.Tagged(f.Data, f.VLAN, 0))
				return
			}
			_ = to.Write(f.Data)
		})
	}
	go fromEngine(a, client)
	go fromEngine(b, server)
}

func pump(from *rawsocket.Socket, handle func(rawsocket.Frame)) {
	buf := make([]byte, 64<<10)
	for {
		f, err := from.Read(buf)
		if err != nil {
			return
		}
		handle(f)
	}
}

// toEngine tags IPv4 packets; a packet of the addresses 10.N.… gets N.
func toEngine(f rawsocket.Frame, engine *rawsocket.Socket) {
	if f.VLAN == 0 {
		if len(f.Data) < 34 || binary.BigEndian.Uint16(f.Data[12:]) != 0x0800 {
			return
		}
		f.VLAN = uint16(f.Data[27])
	}
	_ = engine.Write(rawsocket.Tagged(f.Data, f.VLAN, 0))
}

// config is an engine's on this net.
func (n *testNet) config(t testing.TB) Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "mkeng") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return Config{
		A: "mk-l7a", B: "mk-l7b", Agent: "mk-agent", Netns: n.node, Dir: dir, LockDir: filepath.Join(dir, "locks"),
		Binary: requireSuricata(t), KillWithParent: true,
	}
}

// start starts an engine with rules and waits until it is healthy.
func (n *testNet) start(t *testing.T, cfg Config, rules Rules) *Engine {
	t.Helper()
	e, err := New(cfg, testr.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(paths(cfg.Dir).log())
			t.Logf("the engine's log:\n%s", log)
		}
		if err := e.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Load(t.Context(), rules); err != nil {
		t.Fatal(err)
	}
	waitFor(t, 3*time.Second, "healthy", func() bool { return e.Health().Healthy })
	return e
}

// dial opens a TCP connection from the client to the server of a VLAN.
func (n *testNet) dial(vlan, port int) (net.Conn, error) {
	var conn net.Conn
	err := inNetns(n.client, func() (err error) {
		conn, err = net.DialTimeout("tcp4", fmt.Sprintf("10.%d.0.2:%d", vlan, port), 20*time.Second)
		return err
	})
	return conn, err
}

// listen listens on a TCP port of the server.
func (n *testNet) listen(t *testing.T, port int) net.Listener {
	t.Helper()
	var l net.Listener
	err := inNetns(n.server, func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf(":%d", port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func waitFor(t *testing.T, within time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	within = max(within, 30*time.Second) // a machine may be busy; what must be fast is measured
	for !ok() {
		if time.Since(start) > within {
			t.Fatalf("not %s within %v", what, within)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(start)
}

// nextEvent waits for an event that the test asks for and passes over others.
func nextEvent(t *testing.T, e *Engine, what string, is func(Event) bool) Event {
	t.Helper()
	deadline := time.After(30 * time.Second)
	var others []string
	for {
		select {
		case event := <-e.Events():
			if is(event) {
				return event
			}
			others = append(others, fmt.Sprintf("%+v", event))
		case <-deadline:
			t.Fatalf("no event: %s; others:\n%s", what, strings.Join(others, "\n"))
		}
	}
}

func run(t testing.TB, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}
