package failure

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// launcherVariable makes this test binary the launcher of a directory.
const launcherVariable = "MEERKAT_TEST_LAUNCHER"

// TestLauncherProcess is not a test: it is the engine's container, which another test starts and kills.
func TestLauncherProcess(t *testing.T) {
	dir := os.Getenv(launcherVariable)
	if dir == "" {
		t.Skip("only used by other tests")
	}
	suricata, err := engine.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Until it is killed.
	if err := (&launcher.Server{Place: launcher.Place{Root: dir}, Program: suricata.Path, User: 65532, Log: os.Stderr}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestEngineContainer starts a node without its engine's container, and lets that come, die and come again: all the time each
// policy's failurePolicy holds, and rules that nobody could load are in force as soon as the engine inspects.
func TestEngineContainer(t *testing.T) {
	w := newAgentWorld(t)
	dir := filepath.Join(w.dir, "state")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	order := &agentOrder{Pods: map[string]attach.Target{}}
	for _, p := range w.snapshot.Pods {
		order.Pods[p.Namespace+"/"+p.Name] = attach.Target{UID: string(p.UID), Netns: w.net.PodNetns(p.Namespace, p.Name), Interface: "eth0"}
	}
	began := time.Now()
	n, err := node.Start(t.Context(), node.Config{
		Name: "node-1", Netns: w.net.NodeNetns("node-1"), StateDir: dir, Switch: w.bridge(), MTU: 1500, Locate: target(order),
		Engine:    engine.Config{LockDir: filepath.Join(dir, "lock"), Launcher: launcher.Socket(filepath.Join(dir, "engine"))},
		OnVerdict: func(verdict.Event) {}, Log: testr.New(t),
	})
	if err != nil {
		t.Fatalf("without the engine's container: %v", err)
	}
	t.Cleanup(func() {
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Logf("started after %v", time.Since(began))

	closed, open := snapshotOf(t, objectsFile, ingressFile), snapshotOf(t, objectsFile, ingressFile)
	for i := range open.L7Policies {
		open.L7Policies[i].Spec.FailurePolicy = v1alpha1.FailOpen
	}
	mustWait := func(s plan.Snapshot) {
		t.Helper()
		if _, err := n.Sync(t.Context(), s); err == nil || !strings.Contains(err.Error(), "the engine does not inspect") {
			t.Fatalf("Sync without the engine: %v", err)
		}
	}
	mustWait(open)
	w.mustPass(t, "open, before there is an engine", true, true)
	mustWait(closed)
	w.mustPass(t, "closed, before there is an engine", false, false)

	l := w.startLauncher(t, dir)
	w.mustInspect(t, n, "the engine has come")
	kill(l)
	if !testlab.Eventually(t.Context(), time.Second, func() bool { return !n.EngineHealth().Healthy }) {
		t.Fatal("the engine's container is dead, and the engine counts as healthy")
	}
	mustWait(open)
	w.mustPass(t, "open, and the engine is dead", true, true)
	l = w.startLauncher(t, dir)
	w.mustInspect(t, n, "the engine has come again")
	kill(l)
	_ = w.startLauncher(t, dir)
	w.mustInspect(t, n, "the engine was replaced and nobody asked for anything")
	if _, err := n.Sync(t.Context(), closed); err != nil {
		t.Error(err)
	}
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func (w *agentWorld) startLauncher(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestLauncherProcess$", "-test.timeout=120s")
	cmd.Env = append(os.Environ(), launcherVariable+"="+filepath.Join(dir, "engine"))
	if err := netspace.Do(w.net.NodeNetns("node-1"), cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	return cmd
}

// mustInspect waits until the engine inspects, and looks whether it does so by the policy.
func (w *agentWorld) mustInspect(t *testing.T, n *node.Node, when string) {
	t.Helper()
	if !testlab.Eventually(t.Context(), 10*time.Second, func() bool { return n.EngineHealth().Healthy }) {
		t.Fatalf("%s: %+v", when, n.EngineHealth())
	}
	w.mustPass(t, when, true, false)
}

// mustPass looks whether requests that the policy allows, and ones that it denies, are answered.
func (w *agentWorld) mustPass(t *testing.T, when string, allowed, denied bool) {
	t.Helper()
	for path, want := range map[string]bool{"/public/a": allowed, "/admin": denied} {
		patience := time.Second // for an answer that must not come
		if want {
			patience = 20 * time.Second
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		conn, err := w.Dial(ctx, clientPod, "tcp", w.address("web")+":8080")
		if err == nil {
			err = ask(conn, newReader(conn), path, patience)
			_ = conn.Close()
		}
		cancel()
		if (err == nil) != want {
			t.Errorf("%s: %s: %v, want an answer: %t", when, path, err, want)
		}
	}
}
