package agent

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// TestSwitchComesAndMoves: an agent waits for a switch and says so, takes it up when it comes, and follows when the node's own takes
// its place.
func TestSwitchComesAndMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster)
	w.shop()
	w.applyWeb()
	if err := w.ovs.Stop(); err != nil {
		t.Fatal(err)
	}
	p := w.startAgent()
	w.report("there is no switch", func(s *v1alpha1.NodeInspectionStatus) bool {
		c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady)
		return c != nil && c.Reason == "Starting" && strings.Contains(c.Message, "no Open vSwitch answers")
	})
	w.allowed("stranger", "/before")
	w.startSwitch("ovs")
	w.report("the policy is in force", inForce)
	w.denied("client", "/secret")

	if err := w.ovs.Stop(); err != nil {
		t.Fatal(err)
	}
	w.startSwitch("ovs2")
	w.eventually("the bridge moves", func() error { return p.says("The node has another Open vSwitch now") })
	w.allowed("client", "/public/a")
	w.denied("client", "/secret")
	w.report("the policy is in force", func(s *v1alpha1.NodeInspectionStatus) bool {
		return inForce(s) && meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionReady)
	})
	if w.passes("/secret") != 0 {
		t.Error("a forbidden request passed")
	}
}
