package failure

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// mortal is a switch whose user kills itself before a certain call.
type mortal struct {
	openflow.Switch
	calls  atomic.Int32
	dieAt  int32
	wanted atomic.Pointer[openflow.Bundle]
}

func (m *mortal) count() {
	if m.calls.Add(1)-1 == m.dieAt {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
}

func (m *mortal) EnsureBridge(ctx context.Context) error {
	m.count()
	return m.Switch.EnsureBridge(ctx)
}

func (m *mortal) AddPorts(ctx context.Context, names ...string) (map[string]uint32, error) {
	m.count()
	return m.Switch.AddPorts(ctx, names...)
}

func (m *mortal) DelPorts(ctx context.Context, names ...string) error {
	m.count()
	return m.Switch.DelPorts(ctx, names...)
}

func (m *mortal) Apply(ctx context.Context, b *openflow.Bundle) error {
	m.count()
	err := m.Switch.Apply(ctx, b)
	if err == nil {
		m.wanted.Store(b)
	}
	return err
}

func (m *mortal) FlushZone(ctx context.Context, zone uint16) error {
	m.count()
	return m.Switch.FlushZone(ctx, zone)
}

func (m *mortal) InspectionIDs(ctx context.Context) ([]uint16, error) {
	m.count()
	return m.Switch.InspectionIDs(ctx)
}

// TestAgentProcess is not a test: it is the agent that other tests kill.
func TestAgentProcess(t *testing.T) {
	if os.Getenv(agentVariable) == "" {
		t.Skip("only used by other tests")
	}
	var order agentOrder
	if err := json.Unmarshal([]byte(os.Getenv(agentVariable)), &order); err != nil {
		t.Fatal(err)
	}
	bridge := &openflow.OVS{Programs: order.Programs, RunDir: order.RunDir, DatapathType: openflow.DatapathUserspace}
	if shim := os.Getenv(shimVariable); shim != "" {
		bridge.Programs = shim
	}
	s := &mortal{Switch: bridge, dieAt: int32(order.DieAt)}
	n, err := node.Start(t.Context(), node.Config{
		Name: "node-1", Netns: order.Netns, StateDir: order.Dir, Switch: s, MTU: 1500, Locate: target(&order),
		Engine: engine.Config{LockDir: filepath.Join(order.Dir, "lock")},
		Log:    funcr.New(func(prefix, args string) { fmt.Fprintln(os.Stderr, prefix, args) }, funcr.Options{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	sync := func(files []string) {
		r, err := n.Sync(t.Context(), snapshotOf(t, files...))
		report := agentReport{Calls: int(s.calls.Load()), Edges: len(r.Plan.Edges), Took: r.Took}
		if b := s.wanted.Load(); b != nil {
			report.Flows = b.Dump()
		}
		if err != nil {
			report.Error = err.Error()
		}
		for _, err := range r.Failed {
			report.Failed = append(report.Failed, err.Error())
		}
		text, _ := json.Marshal(report) // of plain values
		fmt.Printf("report %s\n", text)
	}
	sync(order.Files)
	for words := bufio.NewScanner(os.Stdin); words.Scan(); {
		switch said := strings.Fields(words.Text()); said[0] {
		case "sync":
			sync(append([]string{objectsFile}, said[1:]...))
		case "detach":
			if err := n.Detach(); err != nil {
				t.Fatal(err)
			}
			return
		case "close":
			if err := n.Close(context.WithoutCancel(t.Context())); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
}

// TestAgentKilled kills an agent before each of its steps, in the middle of commits, and at any moment, and lets another one go
// on: with the same policies, or with others.
func TestAgentKilled(t *testing.T) {
	w := newAgentWorld(t)
	shim := w.bundleShim()
	random := rand.New(rand.NewPCG(7, 7))
	last := w.round("undisturbed", func() {}, 2, ingressFile, egressFile)
	t.Logf("an undisturbed start and Sync make %d calls to the switch", last.Calls)
	kills := 0
	one := func(name string, dieAt int, env []string, after time.Duration) {
		kills++
		files, edges := []string{ingressFile, egressFile}, 2
		if kills%3 == 0 {
			files, edges = []string{ingressFile}, 1 // the client is not governed any more
		}
		w.round(name, func() {
			a := w.startAgent(dieAt, env, ingressFile, egressFile)
			if after > 0 {
				time.Sleep(after)
				a.kill()
				return
			}
			if dieAt >= last.Calls {
				a.mustSync(name, 2)
				a.say("sync", ingressFile)
			}
			if _, ok := a.synced(); ok {
				t.Fatalf("%s: the agent lives", name)
			}
			a.kill()
		}, edges, files...)
	}
	// All of them take two minutes; every other one, some of each kind, unless that is asked for.
	long := os.Getenv("MEERKAT_TEST_LONG") != ""
	for k := range last.Calls {
		if !long && k%2 == 1 {
			continue
		}
		one(fmt.Sprintf("killed before call %d to the switch", k), k, nil, 0)
	}
	for k := range 4 {
		if !long && k < 2 {
			continue
		}
		one(fmt.Sprintf("killed before call %d to the switch of a Sync that releases a Pod", k), last.Calls+k, nil, 0)
	}
	for k := 1; k <= 3; k++ {
		if !long && k == 1 {
			continue
		}
		one(fmt.Sprintf("killed in the middle of bundle %d", k), -1, []string{shimVariable + "=" + shim, fmt.Sprintf("KILL_AT=%d", k),
			"KILL_COUNT=" + filepath.Join(t.TempDir(), "count")}, 0)
	}
	rounds := 3
	if long {
		rounds = 10
	}
	for range rounds {
		after := 50*time.Millisecond + time.Duration(random.IntN(1500))*time.Millisecond
		one(fmt.Sprintf("killed after %s", after), -1, nil, after)
	}
	t.Logf("an agent was killed %d times, and the next one put everything right", kills)
}

// bundleShim is a directory with Open vSwitch's programs, whose ovs-ofctl kills the agent once it has read a bundle's text, and then
// commits it.
func (w *agentWorld) bundleShim() string {
	w.t.Helper()
	dir := w.t.TempDir()
	path := func(program string) string {
		p, err := exec.LookPath(w.ovs.Programs().Path(program))
		if err != nil {
			w.t.Fatal(err)
		}
		return p
	}
	for _, program := range []string{"ovs-vsctl", "ovs-appctl"} {
		if err := os.Symlink(path(program), filepath.Join(dir, program)); err != nil {
			w.t.Fatal(err)
		}
	}
	script := `#!/bin/bash
if [[ " $* " == *" bundle mk-br0 "* ]]; then
	echo >> "$KILL_COUNT"
	[ "$(wc -l < "$KILL_COUNT")" = "$KILL_AT" ] && kill -KILL $PPID
fi
exec ` + path("ovs-ofctl") + ` "$@"
`
	if err := os.WriteFile(filepath.Join(dir, "ovs-ofctl"), []byte(script), 0o755); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

// round lets something happen, and then an agent start, do its Sync, and take everything down: every time what should be there
// is there, and in the end nothing is left.
func (w *agentWorld) round(when string, happen func(), edges int, files ...string) agentReport {
	w.t.Helper()
	happen()
	a := w.startAgent(-1, nil, files...)
	r := a.mustSync(when, edges)
	w.check(when, edges, r)
	a.end(when)
	if diff := cmp.Diff(w.before, w.state()); diff != "" {
		w.t.Fatalf("%s: when all was released (-before +after):\n%s", when, diff)
	}
	if pids := w.engines(); len(pids) > 0 {
		w.t.Fatalf("%s: engines are left: %d", when, pids)
	}
	if names := w.orphans(); len(names) > 0 {
		w.t.Fatalf("%s: interfaces are left: %s", when, names)
	}
	return r
}

// check looks at everything that an agent is to have put right.
func (w *agentWorld) check(when string, edges int, r agentReport) {
	w.t.Helper()
	present, err := w.bridge().Dump(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(r.Flows, present.Dump()); diff != "" {
		w.t.Errorf("%s: the flows (-wanted +present):\n%s", when, diff)
	}
	ports, err := w.bridge().ConfiguredPorts(w.t.Context())
	if err != nil || len(ports) != 3+2*edges {
		w.t.Errorf("%s: the bridge has the ports %v, %v", when, ports, err)
	}
	if pids := w.engines(); len(pids) != 1 {
		w.t.Errorf("%s: the engines are %d", when, pids)
	}
	if _, err := ledger.Load(filepath.Join(w.dir, "state", "ledger.json")); err != nil {
		w.t.Errorf("%s: %v", when, err)
	}
	pods := func(state string) string { p, _, _ := strings.Cut(state, "node "); return p }
	if diff := cmp.Diff(pods(w.before), pods(w.state())); diff != "" {
		w.t.Errorf("%s: the Pods (-before +after):\n%s", when, diff)
	}
	for path, allowed := range map[string]bool{"/public/a": true, "/admin": false} {
		began, patience := time.Now(), time.Second // for an answer that must not come
		if allowed {
			patience = 20 * time.Second
		}
		ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
		conn, err := w.Dial(ctx, clientPod, "tcp", w.address("web")+":8080")
		if err == nil {
			err = ask(conn, newReader(conn), path, patience)
			_ = conn.Close()
		}
		cancel()
		reached := slices.ContainsFunc(w.Records(began), func(r record) bool { return len(r.Requests) > 0 })
		if (err == nil) != allowed || reached != allowed {
			w.t.Errorf("%s: %s: %v; it reached the server: %t", when, path, err, reached)
		}
	}
	if w.t.Failed() {
		w.t.FailNow()
	}
}

// TestAgentKilledUnderLoad kills agents again and again while connections are open: what was enforced is enforced all the time,
// and connections that are allowed go on.
func TestAgentKilledUnderLoad(t *testing.T) {
	w := newAgentWorld(t)
	a := w.startAgent(-1, nil, ingressFile, egressFile)
	a.mustSync("at first", 2)
	engines := w.engines()
	tr := startTraffic(t, w)
	time.Sleep(300 * time.Millisecond)
	var starts []time.Duration
	for i := range 6 {
		when := fmt.Sprintf("round %d", i)
		if i%2 == 1 { // in the middle of a change
			a.say("sync", ingressFile, "testdata/more.yaml", egressFile)
			time.Sleep(time.Duration(20+40*i) * time.Millisecond)
		}
		a.kill()
		if !testlab.Eventually(t.Context(), 500*time.Millisecond, func() bool { return len(w.engines()) == 1 }) {
			t.Fatalf("%s: without an agent the engines are %d", when, w.engines())
		}
		time.Sleep(300 * time.Millisecond) // without an agent
		began := time.Now()
		a = w.startAgent(-1, nil, ingressFile, egressFile)
		a.mustSync(when, 2)
		starts = append(starts, time.Since(began))
	}
	a.say("detach")
	if err := a.cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, a.log)
	}
	time.Sleep(300 * time.Millisecond)
	a = w.startAgent(-1, nil, ingressFile, egressFile)
	a.mustSync("after it had ended in order", 2)
	if now := w.engines(); !slices.Equal(engines, now) {
		t.Errorf("the engine was %d and is %d: it was not adopted", engines, now)
	}
	tr.end()
	tr.log(t)
	t.Logf("the next agent was done %s after its start", spread(starts))
	if passed := tr.passed(); passed > 0 {
		t.Errorf("%d forbidden requests reached the server", passed)
	}
	if tr.keptAlive.reset+tr.keptAlive.lost+tr.fresh.lost+tr.fresh.reset > 0 {
		t.Error("connections were lost")
	}
	a.end("in the end")
	if diff := cmp.Diff(w.before, w.state()); diff != "" {
		t.Errorf("when all was released (-before +after):\n%s", diff)
	}
}
