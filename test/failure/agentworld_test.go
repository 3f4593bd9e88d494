package failure

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	servers "github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovsdaemon"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

type record = servers.Record

// agentWorld is a node with its Pods and its Open vSwitch, but without an agent: agents are processes of their own, which the
// tests kill.
type agentWorld struct {
	t        *testing.T
	dir      string
	net      *network.Network
	ovs      *ovsdaemon.Daemons
	recorder *servers.Recorder
	snapshot plan.Snapshot // of no policies
	before   string        // the Pods and the node as they were found
}

func newAgentWorld(t *testing.T) *agentWorld {
	t.Helper()
	w := &agentWorld{t: t, recorder: servers.NewRecorder(), snapshot: snapshotOf(t, objectsFile)}
	options := labs.Options(t)
	w.dir = lab.Dir(options.StateDir, options.Name)
	var err error
	if w.net, err = network.New(options.Name, w.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.net.Destroy(); err != nil {
			t.Error(err)
		}
		_ = os.Remove(options.StateDir)
	})
	pods := []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")}
	if err := w.net.AddNode("node-1", pods); err != nil {
		t.Fatal(err)
	}
	for _, p := range w.snapshot.Pods {
		w.addPod(p.Namespace, p.Name, string(p.UID), p.Status.PodIPs[0].IP, p.Status.PodIPs[1].IP)
	}
	programs, err := ovsdaemon.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.ovs, err = ovsdaemon.Start(t.Context(), ovsdaemon.Options{
		Dir: filepath.Join(w.dir, "ovs"), Programs: programs, Netns: w.net.NodeNetns("node-1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.ovs.Stop(); err != nil {
			t.Error(err)
		}
	})
	w.before = w.state()
	return w
}

func (w *agentWorld) addPod(namespace, name, uid string, ips ...string) {
	w.t.Helper()
	spec := network.PodSpec{Namespace: namespace, Name: name, UID: uid, Node: "node-1"}
	for _, ip := range ips {
		spec.IPs = append(spec.IPs, netip.MustParseAddr(ip))
	}
	if err := w.net.AddPod(spec); err != nil {
		w.t.Fatal(err)
	}
	err := netspace.Do(w.net.PodNetns(namespace, name), func() error {
		server, err := servers.Listen(namespace+"/"+name, []servers.Port{{Number: 8080, Name: "http", Protocol: "TCP"}}, w.recorder)
		if err == nil {
			w.t.Cleanup(func() { _ = server.Close() })
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func snapshotOf(t *testing.T, files ...string) plan.Snapshot {
	t.Helper()
	objects, err := manifests.Load(files...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := lab.Snapshot(objects)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Dial connects from the client.
func (w *agentWorld) Dial(ctx context.Context, _ scenario.Place, transport, address string) (conn net.Conn, err error) {
	err = netspace.Do(w.net.PodNetns("shop", "client"), func() error {
		conn, err = servers.Dial(ctx, transport, address)
		return err
	})
	return conn, err
}

// Resolve gives the server's address, or its Service's.
func (w *agentWorld) Resolve(_ context.Context, to scenario.Target, _ string, _ scenario.Family) (netip.AddrPort, error) {
	if to.Kind == scenario.ServiceTarget {
		return netip.ParseAddrPort(w.snapshot.Services[0].Spec.ClusterIP + ":80")
	}
	return netip.ParseAddrPort(w.address("web") + ":8080")
}

// Records gives what the servers saw.
func (w *agentWorld) Records(since time.Time) []servers.Record { return w.recorder.Since(since) }

func (w *agentWorld) address(pod string) string {
	for _, p := range w.snapshot.Pods {
		if p.Name == pod {
			return p.Status.PodIP
		}
	}
	return ""
}

var volatile = regexp.MustCompile(`valid_lft \S+ preferred_lft \S+|@if\d+|@\S+|qlen \d+|link-netns\S* \S+|^\d+: |\n\d+: `)

// state is what must be found again: interfaces, addresses and routes of every Pod, and the node's interfaces.
func (w *agentWorld) state() string {
	w.t.Helper()
	var all strings.Builder
	for _, p := range w.snapshot.Pods {
		netns := filepath.Base(w.net.PodNetns(p.Namespace, p.Name))
		fmt.Fprintf(&all, "Pod %s\n%s%s%s", p.Name, w.ip("-n", netns, "addr", "show", "dev", "eth0"),
			w.ip("-n", netns, "route"), w.ip("-n", netns, "-6", "route"))
	}
	node := strings.Fields(volatile.ReplaceAllString(w.ip("-n", filepath.Base(w.net.NodeNetns("node-1")), "-br", "link"), ""))
	node = slices.DeleteFunc(node, func(s string) bool { return !strings.HasPrefix(s, "m") && !strings.HasPrefix(s, "p") })
	slices.Sort(node)
	return volatile.ReplaceAllString(all.String(), "") + "node " + strings.Join(node, " ") + "\n" + w.bridges()
}

func (w *agentWorld) bridges() string {
	w.t.Helper()
	out, err := w.ovs.Command(w.t.Context(), "ovs-vsctl", "list-br").CombinedOutput()
	if err != nil {
		w.t.Fatalf("ovs-vsctl list-br: %v: %s", err, out)
	}
	return "bridges " + string(out)
}

func (w *agentWorld) ip(args ...string) string {
	w.t.Helper()
	// Only what it prints of what was asked: it complains of other tests' network namespaces, too, while they are being made.
	var out, complaints strings.Builder
	cmd := exec.CommandContext(w.t.Context(), "ip", args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		w.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, complaints.String())
	}
	return out.String()
}

// engines gives the processes that run as this node's engine.
func (w *agentWorld) engines() []int {
	w.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		w.t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		var pid int
		if _, scan := fmt.Sscan(e.Name(), &pid); err != nil || scan != nil {
			continue
		}
		if strings.Contains(string(line), filepath.Join(w.dir, "state", "engine")) && strings.Contains(string(line), "--af-packet") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// orphans gives interfaces of edges that belong to no Pod.
func (w *agentWorld) orphans() []string {
	w.t.Helper()
	var uids []string
	for _, p := range w.snapshot.Pods {
		uids = append(uids, string(p.UID))
	}
	a, err := attach.New(w.net.NodeNetns("node-1"), filepath.Join(w.dir, "state", "attach"))
	if err != nil {
		w.t.Fatal(err)
	}
	names, err := a.Orphans(uids)
	if err != nil {
		w.t.Fatal(err)
	}
	return names
}

func (w *agentWorld) bridge() *openflow.OVS {
	return &openflow.OVS{Programs: w.ovs.Programs().Dir, RunDir: w.ovs.RunDir(), DatapathType: openflow.DatapathUserspace}
}

// agentOrder is what an agent's process is to do.
type agentOrder struct {
	Dir, Programs, RunDir, Netns string
	Pods                         map[string]attach.Target // by namespace/name
	Files                        []string                 // the objects of its first Sync
	// DieAt is the number of the call to the switch before which it kills itself; -1: never.
	DieAt int
}

// agentReport is what the process says after a Sync.
type agentReport struct {
	Error  string
	Failed []string
	Edges  int
	Calls  int // to the switch
	Took   time.Duration
	Flows  string // what the bridge is to hold, as a dump
}

// agent is a running process.
type agent struct {
	w     *agentWorld
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	log   *strings.Builder
}

// Variables of the environment of an agent's process: its order, and a directory with other programs of Open vSwitch.
const (
	agentVariable = "MEERKAT_TEST_AGENT"
	shimVariable  = "MEERKAT_TEST_OVS"
)

func (w *agentWorld) startAgent(dieAt int, env []string, files ...string) *agent {
	w.t.Helper()
	order := agentOrder{
		Dir: filepath.Join(w.dir, "state"), Programs: w.ovs.Programs().Dir, RunDir: w.ovs.RunDir(), Netns: w.net.NodeNetns("node-1"),
		Pods: map[string]attach.Target{}, Files: append([]string{objectsFile}, files...), DieAt: dieAt,
	}
	for _, p := range w.snapshot.Pods {
		order.Pods[p.Namespace+"/"+p.Name] = attach.Target{
			UID: string(p.UID), Netns: w.net.PodNetns(p.Namespace, p.Name), Interface: "eth0",
		}
	}
	text, err := json.Marshal(order)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.MkdirAll(order.Dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	a := &agent{w: w, log: &strings.Builder{}}
	a.cmd = exec.Command(os.Args[0], "-test.run=^TestAgentProcess$", "-test.timeout=120s")
	a.cmd.Env = append(append(os.Environ(), env...), agentVariable+"="+string(text))
	a.cmd.Stderr = a.log
	a.cmd.WaitDelay = time.Second // children that outlive it may hold the pipe
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	a.lines = bufio.NewScanner(out)
	a.lines.Buffer(nil, 1<<22)
	if err := a.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(a.kill)
	return a
}

// synced waits for the report of a Sync; false when the process died before.
func (a *agent) synced() (agentReport, bool) {
	var r agentReport
	for a.lines.Scan() {
		if text, ok := strings.CutPrefix(a.lines.Text(), "report "); ok {
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				a.w.t.Fatal(err)
			}
			return r, true
		}
		a.log.WriteString(a.lines.Text() + "\n")
	}
	return r, false
}

// mustSync waits for the report of a Sync that did all it should.
func (a *agent) mustSync(when string, edges int) agentReport {
	a.w.t.Helper()
	r, ok := a.synced()
	if !ok || r.Error != "" || len(r.Failed) > 0 || r.Edges != edges {
		a.kill()
		a.w.t.Fatalf("%s: the next agent does not do it: %+v\n%s", when, r, a.log)
	}
	return r
}

// say sends a word: "sync FILE…", "close" or "detach".
func (a *agent) say(words ...string) {
	a.w.t.Helper()
	if _, err := io.WriteString(a.in, strings.Join(words, " ")+"\n"); err != nil {
		a.w.t.Fatal(err)
	}
}

// kill kills the process, and waits until it is gone.
func (a *agent) kill() {
	if a.cmd.ProcessState == nil {
		_ = a.cmd.Process.Signal(unix.SIGKILL)
		_ = a.cmd.Wait()
	}
}

// end lets the process release every Pod and take everything down.
func (a *agent) end(when string) {
	a.w.t.Helper()
	a.say("close")
	for a.lines.Scan() {
		a.log.WriteString(a.lines.Text() + "\n")
	}
	if err := a.cmd.Wait(); err != nil {
		a.w.t.Fatalf("%s: the agent does not end: %v\n%s", when, err, a.log)
	}
}

func target(order *agentOrder) func(types.NamespacedName) (attach.Target, error) {
	return func(pod types.NamespacedName) (attach.Target, error) {
		t, ok := order.Pods[pod.String()]
		if !ok {
			return t, errors.New("it has no network namespace on this node")
		}
		return t, nil
	}
}
