package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/cni"
	"github.com/meerkat-dev/meerkat/dataplane/signatures/feedtest"
)

// manyRules take an engine half a minute to load, fewRules some seconds: longer than a Sync waits.
const manyRules, fewRules = 40_000, 1_000

// loads tells whether the node says of the inspection guard and its rule set that a revision runs and another one is being loaded.
func loads(revision string) func(*v1alpha1.NodeInspectionStatus) bool {
	return func(s *v1alpha1.NodeInspectionStatus) bool {
		i, r := inspection(s, "guard"), local(s)
		return runs(revision)(s) && r.Reason == "NotLoaded" && strings.Contains(r.Message, "is loading") && i.Reason == "NotLoaded" && !i.Programmed && i.Inspected
	}
}

// TestLoadsHoldUpNobody: while an engine loads tens of thousands of rules, a change of a policy and a Pod that starts are in force as soon as
// ever, the rules before stay in force and are reported, an engine that is killed comes back with them, and other rules, or none, need not
// wait for the load's end.
func TestLoadsHoldUpNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster)
	w.shop()
	w.applyWeb()
	w.writeConflist()
	p := w.startAgentWith(func(o *order) { o.CNI = true })
	few := w.storeRevision(vetoRule)
	w.ruleSet()
	w.setRevision(few, nil)
	w.inspect("guard", v1alpha1.InspectionPrevent, "local")
	w.report("the policy is in force", inForce)
	w.report("the first revision runs", runs(few))
	quiet := w.changeAndStart("quiet")
	most := 4*time.Second + 4*quiet // a machine that is busy without us is slower
	many := w.storeRevision(strings.ReplaceAll(vetoRule, "/veto", "/many") + string(feedtest.Rules(1, manyRules)))
	w.setRevision(many, nil)
	w.report("the load is under way", loads(few))

	took := w.changeAndStart("busy")
	t.Logf("a policy's change and a Pod that starts are in force after %s, while %d rules load; before, after %s", took, manyRules, quiet)
	if took > most {
		t.Errorf("that took %s; at most %s were meant", took, most)
	}
	for path, want := range map[string]string{"/busy/b": "200", "/quiet/b": "denied", "/busy/veto": "denied", "/busy/many": "200"} {
		if got := w.get("client", "web-busy", path); !strings.HasPrefix(got, want) {
			t.Errorf("the new Pod, GET %s: %s; it should be %s", path, got, want)
		}
	}

	engine := w.signatureEngines()
	if len(engine) != 1 {
		t.Fatalf("the signature engines are %v", engine)
	}
	began := time.Now()
	w.signal(engine[0])
	w.eventually("the engine that was killed is back", func() error {
		if now := w.signatureEngines(); len(now) != 1 || now[0] == engine[0] {
			return fmt.Errorf("the engines are %v", now)
		}
		return nil
	})
	w.allowed("client", "/busy/c")
	w.denied("client", "/busy/veto")
	t.Logf("an engine that was killed while it loads inspects by the rules before after %s", time.Since(began).Round(time.Millisecond))
	w.report("the load is under way still", loads(few))

	began = time.Now()
	w.limit = 2 * time.Minute
	other := w.storeRevision(strings.ReplaceAll(vetoRule, "/veto", "/other") + string(feedtest.Rules(2, fewRules)))
	w.setRevision(other, nil)
	w.report("another revision need not wait for the load, and its own end is not waited for in vain", runs(other))
	t.Logf("another revision of %d rules, written while %d load, runs after %s", fewRules, manyRules, time.Since(began).Round(time.Millisecond))
	w.denied("client", "/busy/other")
	w.allowed("client", "/busy/veto")

	w.setRevision(many, nil)
	w.report("the load is under way again", loads(other))
	began = time.Now()
	guard := &v1alpha1.TrafficInspection{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "guard"}}
	if err := w.cluster.Client.Delete(t.Context(), guard); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	w.eventually("the engine of an inspection that is gone ends", func() error {
		if now := w.signatureEngines(); len(now) > 0 {
			return fmt.Errorf("the engines are %v", now)
		}
		return nil
	})
	w.allowed("client", "/busy/other")
	took = time.Since(began)
	t.Logf("an inspection that is removed while its rules load is gone after %s", took.Round(time.Millisecond))
	if took > 2*most {
		t.Errorf("it took %s; at most %s were meant", took, 2*most)
	}
	p.end() // where the race detector is on, an agent with races does not end in order
}

// changeAndStart changes the policy to allow the paths below /name/, and starts the Pod web-name: it gives the longer of the times that these
// take to be in force.
func (w *world) changeAndStart(name string) time.Duration {
	w.t.Helper()
	began := time.Now()
	w.resolve(w.applyUnresolved(strings.ReplaceAll(webPolicy, "/public/", "/"+name+"/")))
	w.allowed("client", "/"+name+"/a")
	change := time.Since(began)
	pod := w.createPod("web-"+name, map[string]string{"app": "web"})
	w.addSandbox(pod, w.nextAddress())
	began = time.Now()
	if r := w.add(pod); r.Decision != cni.Governed {
		w.t.Errorf("the Pod that starts: %+v", r)
	}
	start := time.Since(began)
	w.t.Logf("%s: the policy's change is in force after %s, the Pod after %s", name, change.Round(time.Millisecond), start.Round(time.Millisecond))
	return max(change, start).Round(time.Millisecond)
}

// signatureEngines are the processes of this node's engines of signatures.
func (w *world) signatureEngines() []int { return w.enginesIn("signatures") }
