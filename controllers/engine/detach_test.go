package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/engine"
	"github.com/meerkat-dev/meerkat/controllers/engine/render"
)

// running is an Engine with two nodes that inspect and one whose agent's image cannot be pulled.
func running(t *testing.T, spec v1alpha1.EngineSpec) *world {
	t.Helper()
	w := newWorld(t)
	w.createEngine(spec)
	w.waitForDaemonSets()
	w.roll(3)
	for _, node := range []string{"n1", "n2"} {
		w.schedule(node, true)
		w.report(node, v1alpha1.ConditionReady, metav1.ConditionTrue)
	}
	w.schedule("n3", false)
	w.waitFor(v1alpha1.ConditionReady, metav1.ConditionFalse, "NodesFailing")
	return w
}

// An Engine that is deleted stays until all its agents have put their Pods back; then the DaemonSets go, and then itself.
func TestDeletionWaitsForAgents(t *testing.T) {
	w := running(t, v1alpha1.EngineSpec{})
	uid := string(w.engine().UID)
	slice := &v1alpha1.AddressSlice{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Selector: v1alpha1.PeerSelector{Namespace: "shop"}}
	w.do(w.Create(t.Context(), slice))

	// In the foreground, as Argo CD deletes: nothing may go before the agents are done.
	w.do(w.Delete(t.Context(), w.engine(), client.PropagationPolicy(metav1.DeletePropagationForeground)))
	c := w.waitFor(v1alpha1.ConditionProgressing, metav1.ConditionTrue, "Detaching")
	if c.Message != "Waiting for 2 nodes to put Pods' networks back: n1, n2." {
		t.Errorf("the message is: %s", c.Message)
	}
	w.report("n1", v1alpha1.ConditionDetached, metav1.ConditionTrue)
	w.eventually("it waits for n2 alone", func() error {
		c := w.waitFor(v1alpha1.ConditionProgressing, metav1.ConditionTrue, "Detaching")
		if c.Message != "Waiting for 1 node to put Pods' networks back: n2." {
			return fmt.Errorf("%s", c.Message)
		}
		return nil
	})
	// A restart of the manager changes nothing.
	w.stop()
	w.start()
	time.Sleep(2 * time.Second)
	if ds := w.daemonSet(render.NodeDaemonSet); ds == nil || !ds.DeletionTimestamp.IsZero() {
		t.Fatal("the agents are taken away before they are done")
	}

	w.report("n2", v1alpha1.ConditionDetached, metav1.ConditionTrue)
	w.eventually("the DaemonSets are gone", func() error {
		if w.daemonSet(render.NodeDaemonSet) != nil || w.daemonSet(render.SwitchDaemonSet) != nil {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	if w.engine() == nil {
		t.Fatal("the Engine is gone before its Pods are")
	}
	w.removePods()
	w.eventually("the Engine is gone", w.engineGone)
	for _, object := range []client.Object{&v1alpha1.NodeInspection{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, slice} {
		if err := w.Get(t.Context(), client.ObjectKeyFromObject(object), object); !apierrors.IsNotFound(err) {
			t.Errorf("%T is left: %v", object, err)
		}
	}
	w.eventually("an event says so", func() error {
		if _, ok := w.told()[uid+" Normal Detached"]; !ok {
			return fmt.Errorf("events are %v", w.told())
		}
		return nil
	})
}

// A node that does not put its Pods back is waited for as long as the Engine says, and named.
func TestDeletionGoesOnWithoutSilentNodes(t *testing.T) {
	w := running(t, v1alpha1.EngineSpec{DetachTimeout: &metav1.Duration{Duration: 30 * time.Second}})
	uid := string(w.engine().UID)
	w.do(w.Delete(t.Context(), w.engine()))
	w.report("n1", v1alpha1.ConditionDetached, metav1.ConditionTrue)
	w.waitFor(v1alpha1.ConditionProgressing, metav1.ConditionTrue, "Detaching")
	time.Sleep(1500 * time.Millisecond)
	if w.daemonSet(render.NodeDaemonSet) == nil {
		t.Fatal("n2 was not waited for")
	}
	w.clock.pass(31 * time.Second)
	w.eventually("the DaemonSets are gone", func() error {
		if w.daemonSet(render.NodeDaemonSet) != nil {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	// n2's Pods stay in the API, as those of a node that is away do.
	w.clock.pass(time.Minute)
	w.eventually("the Engine is gone", w.engineGone)
	w.eventually("a warning names n2 alone", func() error {
		note := w.told()[uid+" Warning NodesLeftBehind"]
		if !strings.Contains(note, "are put back: n2 (1 node)") {
			return fmt.Errorf("events are %v", w.told())
		}
		return nil
	})
}

// An Engine whose nodes never started anything goes at once.
func TestDeletionWithoutAgents(t *testing.T) {
	w := newWorld(t)
	w.createEngine(v1alpha1.EngineSpec{})
	w.waitForDaemonSets()
	w.do(w.Delete(t.Context(), w.engine()))
	w.eventually("the Engine is gone", w.engineGone)
}

// engineGone tells whether nothing of ours holds the Engine. The finalizer of a deletion in the foreground is the garbage
// collector's, which this cluster does not have.
func (w *world) engineGone() error {
	if e := w.engine(); e != nil && slices.Contains(e.Finalizers, engine.Finalizer) {
		return fmt.Errorf("it is still there")
	}
	return nil
}
