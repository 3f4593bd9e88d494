package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/engine/render"
)

// Without an Engine there is nothing; with one there is what it says, and its status sums up what nodes report.
func TestEngineRunsOnNodes(t *testing.T) {
	w := newWorld(t)
	time.Sleep(500 * time.Millisecond)
	if w.daemonSet(render.NodeDaemonSet) != nil || w.daemonSet(render.SwitchDaemonSet) != nil {
		t.Fatal("without an Engine there are DaemonSets")
	}
	w.createEngine(v1alpha1.EngineSpec{})
	w.waitForDaemonSets()
	w.waitFor(v1alpha1.ConditionReady, metav1.ConditionFalse, "Starting")
	w.roll(0)
	w.waitFor(v1alpha1.ConditionReady, metav1.ConditionFalse, "NoNodes")

	w.schedule("n1", true)
	w.schedule("n2", true)
	w.roll(3)
	w.report("n1", v1alpha1.ConditionReady, metav1.ConditionTrue)
	c := w.waitFor(v1alpha1.ConditionReady, metav1.ConditionFalse, "NodesFailing")
	w.eventually("the status names n2, and counts the node without a Pod", func() error {
		n := w.engine().Status.Nodes
		if n == nil || n.Desired != 3 || n.Ready != 1 || len(n.Failing) != 1 || n.Failing[0] != "n2" {
			return fmt.Errorf("it is %+v; %s", n, c.Message)
		}
		return nil
	})
	c = w.waitFor(v1alpha1.ConditionReady, metav1.ConditionFalse, "NodesFailing")
	if !strings.Contains(c.Message, "1 without a report that it inspects: n2") || !strings.Contains(c.Message, "Without a Pod of the agent: 1 node") {
		t.Errorf("the message does not say who fails: %s", c.Message)
	}

	w.schedule("n3", true)
	w.report("n2", v1alpha1.ConditionReady, metav1.ConditionTrue)
	w.report("n3", v1alpha1.ConditionReady, metav1.ConditionTrue)
	w.waitFor(v1alpha1.ConditionReady, metav1.ConditionTrue, "NodesReady")
	w.waitFor(v1alpha1.ConditionProgressing, metav1.ConditionFalse, "UpToDate")
	w.waitFor(v1alpha1.ConditionStalled, metav1.ConditionFalse, "NotStalled")

	// A report that fails is seen; one that is silent is, too, at the next look.
	w.report("n2", v1alpha1.ConditionReady, metav1.ConditionFalse)
	w.waitFor(v1alpha1.ConditionReady, metav1.ConditionFalse, "NodesFailing")
	w.report("n2", v1alpha1.ConditionReady, metav1.ConditionTrue)
	w.waitFor(v1alpha1.ConditionReady, metav1.ConditionTrue, "NodesReady")
	w.clock.pass(4 * time.Minute)
	w.report("n1", v1alpha1.ConditionReady, metav1.ConditionTrue)
	w.roll(2) // anything that pokes
	w.waitFor(v1alpha1.ConditionReady, metav1.ConditionFalse, "NodesFailing")
}

// What runs on nodes is written when something changed, and only then; what others change is put back.
func TestDaemonSetsAreRolledOnRealChangeOnly(t *testing.T) {
	w := newWorld(t)
	w.createEngine(v1alpha1.EngineSpec{})
	w.waitForDaemonSets()
	w.roll(1)
	w.schedule("n1", true)
	w.report("n1", v1alpha1.ConditionReady, metav1.ConditionTrue)
	w.waitFor(v1alpha1.ConditionReady, metav1.ConditionTrue, "NodesReady")
	before := w.daemonSet(render.NodeDaemonSet)

	// A new manager applies once; nothing may come of it. A change of the Engine that nodes do not see rolls nothing either.
	w.stop()
	w.start()
	w.changeEngine(func(s *v1alpha1.EngineSpec) { s.DetachTimeout = &metav1.Duration{Duration: time.Minute} })
	w.waitFor(v1alpha1.ConditionReady, metav1.ConditionTrue, "NodesReady")
	if after := w.daemonSet(render.NodeDaemonSet); after.ResourceVersion != before.ResourceVersion {
		t.Errorf("the DaemonSet was written without a change: %s became %s", before.ResourceVersion, after.ResourceVersion)
	}

	w.changeEngine(func(s *v1alpha1.EngineSpec) { s.Images.Agent = "example.org/agent:2" })
	w.waitFor(v1alpha1.ConditionReady, metav1.ConditionFalse, "Starting")
	if image := w.daemonSet(render.NodeDaemonSet).Spec.Template.Spec.Containers[0].Image; image != "example.org/agent:2" {
		t.Errorf("the agent's image is %s", image)
	}
	// The rollout goes on, and Open vSwitch stays as it is until someone deletes its Pods.
	w.changeEngine(func(s *v1alpha1.EngineSpec) { s.Images.Switch = "example.org/switch:2" })
	w.eventually("Open vSwitch's DaemonSet has the image", func() error {
		if image := w.daemonSet(render.SwitchDaemonSet).Spec.Template.Spec.Containers[0].Image; image != "example.org/switch:2" {
			return fmt.Errorf("it is %s", image)
		}
		return nil
	})
	w.roll(1)
	ds := w.daemonSet(render.SwitchDaemonSet)
	ds.Status.UpdatedNumberScheduled = 0
	w.do(w.Status().Update(t.Context(), ds))
	w.waitFor(v1alpha1.ConditionProgressing, metav1.ConditionFalse, "SwitchOutdated")
	w.waitFor(v1alpha1.ConditionReady, metav1.ConditionTrue, "NodesReady")

	ds = w.daemonSet(render.NodeDaemonSet)
	patched := ds.DeepCopy()
	patched.Spec.Template.Spec.Containers[0].Image = "example.org/evil:1"
	w.do(w.Patch(t.Context(), patched, client.MergeFrom(ds)))
	w.eventually("what was changed by hand is put back", func() error {
		if image := w.daemonSet(render.NodeDaemonSet).Spec.Template.Spec.Containers[0].Image; image != "example.org/agent:2" {
			return fmt.Errorf("it is %s", image)
		}
		return nil
	})
	w.do(w.Delete(t.Context(), w.daemonSet(render.SwitchDaemonSet)))
	w.eventually("what was deleted by hand is put back", func() error {
		if ds := w.daemonSet(render.SwitchDaemonSet); ds == nil || !ds.DeletionTimestamp.IsZero() {
			return fmt.Errorf("it is not there")
		}
		return nil
	})
}

// What the API server refuses is told as what only a person can mend, and mends itself when it was mended.
func TestRefusedEngineIsStalled(t *testing.T) {
	w := newWorld(t)
	w.createEngine(v1alpha1.EngineSpec{NodeSelector: map[string]string{"no label": "at all"}})
	c := w.waitFor(v1alpha1.ConditionStalled, metav1.ConditionTrue, "Refused")
	if !strings.Contains(c.Message, "no label") {
		t.Errorf("the message does not say what is wrong: %s", c.Message)
	}
	w.waitFor(v1alpha1.ConditionReady, metav1.ConditionFalse, "Refused")
	w.changeEngine(func(s *v1alpha1.EngineSpec) { s.NodeSelector = nil })
	w.waitForDaemonSets()
	w.waitFor(v1alpha1.ConditionStalled, metav1.ConditionFalse, "NotStalled")
}
