package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
)

// TestAPIServerAway: what is in force stays so without the API server, also for an agent that starts meanwhile, and also when
// somebody changes the flows then; and should the engine hang, each policy's failure policy holds.
func TestAPIServerAway(t *testing.T) {
	t.Parallel()
	own, err := testcluster.Start(testcluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w := &world{t: t}
		w.signal(processOf(t, own, "etcd"))
		_ = own.Stop() // both are dead by then
	})
	w := newWorld(t, own)
	w.shop()
	w.addPod("open", map[string]string{"app": "open"})
	w.applyWeb()
	w.resolve(w.applyUnresolved(strings.NewReplacer("name: web", "name: open", "app: web", "app: open", "Closed", "Open").Replace(webPolicy)))
	p := w.startAgent()
	w.report("the policies are in force", func(s *v1alpha1.NodeInspectionStatus) bool {
		open := of(s, "open")
		return inForce(s) && open != nil && open.Programmed && open.Enforced
	})
	w.signal(processOf(t, own, "kube-apiserver"))
	enforced := func(when string) {
		t.Helper()
		w.allowed("client", "/public/"+when)
		for range 2 {
			w.denied("client", "/secret")
			w.denied("stranger", "/public/x")
		}
	}
	enforced("away")
	p.kill()
	enforced("alone")
	p = w.startAgent()
	w.eventually("the next agent follows the engine", func() error { return p.says("Engine adopted") })
	time.Sleep(2 * time.Second) // it would release Pods in that time
	enforced("next")

	if out, err := w.ovs.Command(t.Context(), "ovs-ofctl", "-O", "OpenFlow15", "del-flows", "mk-br0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	enforced("mended")
	if err := p.says("Somebody else changed the flows"); err != nil {
		t.Error(err)
	}

	// While the engine hangs, each policy's own failure policy holds.
	opened := func(want string) {
		t.Helper()
		w.eventually("a forbidden request to a server whose policy fails open: "+want, func() error {
			if got := w.get("client", "open", "/secret-open"); !strings.HasPrefix(got, want) {
				return errors.New(got)
			}
			return nil
		})
	}
	opened("denied")
	for _, pid := range w.engines() {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	opened("200")
	w.denied("client", "/public/hangs")
	for _, pid := range w.engines() {
		w.signal(pid)
	}
	enforced("restarted")
	opened("denied")
	if n := w.passes("/secret") + w.passes("/public/x"); n != 0 {
		t.Errorf("%d forbidden requests passed", n)
	}
	if strings.Contains(p.log.String(), "Heard everything") {
		t.Error("there was an API server")
	}
}

// processOf is one of a cluster's processes.
func processOf(t *testing.T, c *testcluster.Cluster, name string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(c.Kubeconfig), name+".pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestPeersUnknown: a policy whose peers nobody has resolved is not put in force for five seconds, and then without them; a change
// of one that is in force waits as long.
func TestPeersUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster)
	w.shop()
	w.startAgent()
	w.report("the agent is ready", func(s *v1alpha1.NodeInspectionStatus) bool { return len(s.Conditions) > 0 && s.GovernedPods == 0 })
	began := time.Now()
	policy := w.applyUnresolved(webPolicy)
	w.allowed("stranger", "/at-once")
	time.Sleep(3 * time.Second)
	if time.Since(began) < 4*time.Second {
		if got := w.get("stranger", "web", "/later"); !strings.HasPrefix(got, "200") {
			t.Errorf("the policy is in force before its peers are known: %s", got)
		}
	}
	s := w.report("the peers are missing", func(s *v1alpha1.NodeInspectionStatus) bool {
		n := of(s, "web")
		return n != nil && !n.Programmed && n.Reason == "PeersUnresolved"
	})
	if took := time.Since(began); took < 4500*time.Millisecond || took > 30*time.Second {
		t.Errorf("it was told after %s; 5 s were meant", took)
	}
	if !of(s, "web").Enforced {
		t.Error("the policy is enforced without peers, and the report does not say so")
	}
	w.denied("client", "/public/a")
	w.resolve(policy)
	w.report("the policy is in force", inForce)
	w.allowed("client", "/public/b")

	changed := w.applyUnresolved(strings.ReplaceAll(webPolicy, "role: client", "role: stranger"))
	time.Sleep(2 * time.Second)
	if got := w.get("client", "web", "/public/c"); !strings.HasPrefix(got, "200") {
		t.Errorf("the last complete version is not in force any more: %s", got)
	}
	w.resolve(changed)
	w.report("the change is in force", func(s *v1alpha1.NodeInspectionStatus) bool {
		return inForce(s) && of(s, "web").ObservedGeneration == changed.Generation
	})
	w.allowed("stranger", "/public/d")
	w.denied("client", "/public/e")
}
