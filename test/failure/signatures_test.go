package failure

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// signaturesVariable makes this test binary the launchers of signature engines in a directory.
const signaturesVariable = "MEERKAT_TEST_SIGNATURES"

// TestSignatureLaunchersProcess is not a test: it is the container of signature engines, which another test starts and kills.
func TestSignatureLaunchersProcess(t *testing.T) {
	dir := os.Getenv(signaturesVariable)
	if dir == "" {
		t.Skip("only used by other tests")
	}
	suricata, err := engine.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := launcher.LimitMemory(1 << 30); err != nil {
		t.Fatal(err)
	}
	// Until it is killed.
	if err := launcher.SignatureLaunchers(dir, suricata.Path, 15, 65501, os.Stderr).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// signatureWorld is a node whose signature engines are in another container.
type signatureWorld struct {
	*agentWorld
	node     *node.Node
	snapshot plan.Snapshot

	mu     sync.Mutex
	alerts []alerts.Event
}

func (w *signatureWorld) dir() string { return filepath.Join(w.agentWorld.dir, "state") }

func (w *signatureWorld) startContainer() *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSignatureLaunchersProcess$", "-test.timeout=300s")
	cmd.Env = append(os.Environ(), signaturesVariable+"="+filepath.Join(w.dir(), "signatures"))
	if err := netspace.Do(w.net.NodeNetns("node-1"), cmd.Start); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { kill(cmd) })
	return cmd
}

// startNode starts what the agent runs. The engine of policies outlives it.
func (w *signatureWorld) startNode() {
	w.t.Helper()
	order := &agentOrder{Pods: map[string]attach.Target{}}
	for _, p := range w.agentWorld.snapshot.Pods {
		order.Pods[p.Namespace+"/"+p.Name] = attach.Target{UID: string(p.UID), Netns: w.net.PodNetns(p.Namespace, p.Name), Interface: "eth0"}
	}
	var err error
	w.node, err = node.Start(w.t.Context(), node.Config{
		Name: "node-1", Netns: w.net.NodeNetns("node-1"), StateDir: w.dir(), Switch: w.bridge(), MTU: 1500, Locate: target(order),
		Engine:             engine.Config{LockDir: filepath.Join(w.dir(), "lock")},
		SignatureLaunchers: filepath.Join(w.dir(), "signatures"),
		OnAlert: func(e alerts.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.alerts = append(w.alerts, e)
		},
		Log: testr.New(w.t),
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *signatureWorld) detach() {
	w.t.Helper()
	if err := w.node.Detach(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *signatureWorld) mustSync() {
	w.t.Helper()
	r, err := w.node.Sync(w.t.Context(), w.snapshot)
	if err != nil || len(r.Signatures) > 0 || len(r.Failed) > 0 {
		w.t.Fatalf("%v, signatures: %v, Pods: %v", err, r.Signatures, r.Failed)
	}
}

// get asks the server on a connection of its own.
func (w *signatureWorld) get(path string, within time.Duration) error {
	conn, err := w.dial(within)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // a test
	return ask(conn, newReader(conn), path, within)
}

func (w *signatureWorld) dial(within time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), within)
	defer cancel()
	server, err := w.Resolve(ctx, scenario.Target{}, "", "")
	if err != nil {
		return nil, err
	}
	return w.Dial(ctx, clientPod, "tcp", server.String())
}

// alerted tells whether a rule has spoken by an engine of a mode since a time.
func (w *signatureWorld) alerted(mode v1alpha1.InspectionMode, sid uint32, since time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.alerts, func(e alerts.Event) bool {
		return e.Mode == mode && e.Signature.SID == sid && e.Time.After(since)
	})
}

// mustInspect waits until both engines inspect without anybody asking for it, and looks whether they do.
func (w *signatureWorld) mustInspect(when string) {
	w.t.Helper()
	begun := time.Now()
	up := func() bool {
		all := w.node.SignatureEngines()
		return len(all) == 2 && !slices.ContainsFunc(all, func(e node.SignatureEngine) bool { return e.Failed != "" || !e.Status.Health.Healthy })
	}
	if !testlab.Eventually(w.t.Context(), time.Minute, up) {
		w.t.Fatalf("%s: the engines do not come: %+v", when, w.node.SignatureEngines())
	}
	took := time.Since(begun)
	pass := func() bool { return w.get("/public/a", time.Second) == nil }
	if !testlab.Eventually(w.t.Context(), 5*time.Second, pass) {
		w.t.Errorf("%s: requests that no rule drops are not answered", when)
	}
	w.t.Logf("%s: both inspect after %v", when, took)
	since := time.Now()
	if err := w.get("/admin", time.Second); err == nil {
		w.t.Errorf("%s: what a rule drops was answered", when)
	}
	for _, mode := range []v1alpha1.InspectionMode{v1alpha1.InspectionPrevent, v1alpha1.InspectionDetect} {
		// Suricata looks for who listens at most every half second, and loses what it says in between.
		asked, last := 0, error(nil)
		told := func() bool {
			asked, last = asked+1, w.get("/public/b", time.Second)
			return w.alerted(mode, 1000002, since)
		}
		if !testlab.Eventually(w.t.Context(), 10*time.Second, told) {
			w.t.Errorf("%s: no alert in mode %s of %d requests, the last of which ended with %v: %+v", when, mode, asked, last, w.node.SignatureEngines())
		}
	}
}

// pids are the processes of both engines, in this test's view, by mode.
func (w *signatureWorld) pids() map[v1alpha1.InspectionMode]int {
	w.t.Helper()
	all := map[v1alpha1.InspectionMode]int{}
	for _, e := range w.node.SignatureEngines() {
		all[e.Mode] = e.Status.PID // launchers of tests have no container, and so the same numbers
	}
	return all
}

// TestSignatureContainer starts a node without the container of its signature engines, and lets that, engines in it and the agent come, die
// and come again.
func TestSignatureContainer(t *testing.T) {
	w := &signatureWorld{agentWorld: newAgentWorld(t), snapshot: snapshotOf(t, objectsFile, "testdata/signatures.yaml")}
	if err := os.MkdirAll(w.dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	w.startNode()
	closed := false
	t.Cleanup(func() {
		if closed {
			return
		}
		if err := w.node.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})

	r, err := w.node.Sync(t.Context(), w.snapshot)
	if err != nil || len(r.Signatures) != 2 {
		t.Fatalf("without the container: %v, %v", err, r.Signatures)
	}
	for profile, err := range r.Signatures {
		if !strings.Contains(err.Error(), "launcher") {
			t.Errorf("profile %s: %v", profile, err)
		}
	}
	if w.get("/public/a", time.Second) == nil {
		t.Error("an inspection that fails closed lets packets pass without its engine")
	}

	container := w.startContainer()
	w.mustInspect("the container has come")

	t.Run("an engine that is killed is started again, and the other one is not touched", func(t *testing.T) {
		was := w.pids()
		if err := unix.Kill(was[v1alpha1.InspectionDetect], unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if !testlab.Eventually(t.Context(), 5*time.Second, func() bool { return w.pids()[v1alpha1.InspectionDetect] != was[v1alpha1.InspectionDetect] }) {
			t.Fatal("it is not seen to be dead")
		}
		w.mustInspect("an engine was killed")
		if w.pids()[v1alpha1.InspectionPrevent] != was[v1alpha1.InspectionPrevent] {
			t.Error("the other engine was started anew")
		}
	})

	t.Run("an engine that hangs is started again", func(t *testing.T) {
		was := w.pids()
		if err := unix.Kill(was[v1alpha1.InspectionPrevent], unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if !testlab.Eventually(t.Context(), 40*time.Second, func() bool { return w.pids()[v1alpha1.InspectionPrevent] != was[v1alpha1.InspectionPrevent] }) {
			t.Fatal("it is left to hang")
		}
		w.mustInspect("an engine hung")
		if w.pids()[v1alpha1.InspectionDetect] != was[v1alpha1.InspectionDetect] {
			t.Error("the other engine was started anew")
		}
	})

	t.Run("a container that dies takes its engines along, and they come back with it", func(t *testing.T) {
		was := w.pids()
		kill(container)
		gone := func() bool { return w.get("/public/a", 200*time.Millisecond) != nil }
		if !testlab.Eventually(t.Context(), 3*time.Second, gone) {
			t.Error("requests are still answered, and nobody looks at them")
		}
		for mode, pid := range was {
			if err := unix.Kill(pid, 0); err == nil && alive(pid) {
				t.Errorf("the engine of mode %s outlives its container", mode)
			}
		}
		container = w.startContainer()
		w.mustInspect("the container has come again")
	})

	t.Run("an agent that ends leaves the engines, and the next one takes them up without a packet lost", func(t *testing.T) {
		was := w.pids()
		watch := w.watchRequests()
		time.Sleep(300 * time.Millisecond)
		w.detach()
		time.Sleep(300 * time.Millisecond)
		w.startNode()
		w.mustSync()
		time.Sleep(time.Second)
		if asked, failed := watch(); failed != nil || asked < 50 {
			t.Errorf("of %d requests: %v", asked, failed)
		}
		if now := w.pids(); fmt.Sprint(now) != fmt.Sprint(was) {
			t.Errorf("the engines are %v, and were %v", now, was)
		}
		w.mustInspect("the agent was replaced")
	})

	t.Run("what is left of profiles that are gone is taken away at start", func(t *testing.T) {
		was := w.pids()
		w.detach()
		w.startNode()
		w.snapshot = snapshotOf(t, objectsFile)
		w.mustSync()
		for mode, pid := range was {
			if alive(pid) {
				t.Errorf("the engine of mode %s still runs", mode)
			}
		}
		if err := w.get("/admin", time.Second); err != nil {
			t.Errorf("nobody inspects any more, and a request fails: %v", err)
		}
		ports, err := w.bridge().Ports(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		links := w.ip("-n", filepath.Base(w.net.NodeNetns("node-1")), "-br", "link")
		for slot := uint8(1); slot <= 15; slot++ {
			for _, b := range []bool{false, true} {
				name, port := attach.SignaturePair(slot, b)
				if _, ok := ports[port]; ok || strings.Contains(links, name) {
					t.Errorf("%s or %s is still there", name, port)
				}
			}
		}
		if left, _ := filepath.Glob(filepath.Join(w.dir(), "signatures", "[0-9]*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})

	if err := w.node.Close(context.Background()); err != nil {
		t.Error(err)
	}
	closed = true
	if now := w.state(); now != w.before {
		t.Errorf("not as it was found:\n%s\nbefore:\n%s", now, w.before)
	}
}

// alive tells whether a process runs; one that nobody has waited for yet does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// watchRequests asks again and again, on one connection and on new ones, until the function that it returns is called, which tells how
// often, and what went wrong first.
func (w *signatureWorld) watchRequests() (stop func() (asked int, failed error)) {
	over, done := make(chan struct{}), make(chan struct{})
	var asked int
	var failed error
	go func() {
		defer close(done)
		kept, err := w.dial(time.Second)
		if err != nil {
			failed = err
			return
		}
		defer kept.Close() //nolint:errcheck // a test
		in := newReader(kept)
		for failed == nil {
			select {
			case <-over:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if err := ask(kept, in, "/public/kept", time.Second); err != nil {
				failed = fmt.Errorf("on an open connection: %w", err)
			}
			if err := w.get("/public/new", 900*time.Millisecond); err != nil && failed == nil { // no SYN is sent again
				failed = fmt.Errorf("on a new connection: %w", err)
			}
			asked += 2
		}
	}()
	return func() (int, error) {
		close(over)
		<-done
		return asked, failed
	}
}
