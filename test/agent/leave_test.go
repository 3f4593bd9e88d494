package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
)

// TestEngineIsDeleted: the agent puts everything back as it was found, says so, and stays away, also after a restart.
func TestEngineIsDeleted(t *testing.T) {
	t.Parallel()
	cluster := engineCluster(t)
	for _, restart := range []bool{false, true} {
		name := "agent runs"
		if restart {
			name = "agent starts later"
		}
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, cluster)
			w.shop()
			before := w.state()
			engine := &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.EngineName, Finalizers: []string{"meerkat.dev/test"}}}
			w.create(engine)
			t.Cleanup(func() {
				engine.Finalizers = nil
				_ = cluster.Client.Update(t.Context(), engine)
			})
			defer func() {
				engine.Finalizers = nil
				if err := cluster.Client.Update(t.Context(), engine); err != nil {
					t.Error(err)
				}
			}()
			w.writeConflist()
			w.applyWeb()
			revision := w.storeRevision(vetoRule)
			w.ruleSet()
			w.setRevision(revision, nil)
			w.inspect("guard", v1alpha1.InspectionPrevent, "local")
			w.inspect("watch", v1alpha1.InspectionDetect, "local")
			p := w.startAgentWith(func(o *order) { o.CNI = true })
			w.report("the policy is in force", inForce)
			w.report("the signatures are in force", runs(revision))
			w.eventually("the plugin is installed", func() error { return w.conflistHas(true) })
			if restart {
				p.kill()
			}
			if err := cluster.Client.Delete(t.Context(), engine); err != nil {
				t.Fatal(err)
			}
			if restart {
				p = w.startAgentWith(func(o *order) { o.CNI = true })
			}
			w.report("the agent has left", func(s *v1alpha1.NodeInspectionStatus) bool {
				return meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionDetached)
			})
			if err := cluster.Client.Get(t.Context(), clientKey(engine), engine); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second) // long enough to come back
			if after := w.state(); after != before {
				t.Errorf("it was\n%s\nand is\n%s", before, after)
			}
			w.allowed("stranger", "/after")
			if err := w.conflistHas(false); err != nil {
				t.Error(err)
			}
			for _, dir := range []string{"state", "cnistate", "bin"} {
				left, _ := os.ReadDir(filepath.Join(w.dir, dir))
				for _, e := range left {
					t.Errorf("%s is left", filepath.Join(dir, e.Name()))
				}
			}
			if len(w.engines()) > 0 {
				t.Error("the engine runs")
			}
			p.end()
		})
	}
}

// TestRemove: what an agent has left is put back without one, and without an engine.
func TestRemove(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster)
	w.shop()
	before := w.state()
	w.applyWeb()
	p := w.startAgent()
	w.report("the policy is in force", inForce)
	p.kill()
	w.killEngine()
	a, err := attach.New(w.net.NodeNetns("node-1"), filepath.Join(w.dir, "state", "attach"))
	if err != nil {
		t.Fatal(err)
	}
	bridge := &openflow.OVS{Programs: w.programs.Dir, RunDir: w.ovs.RunDir(), DatapathType: openflow.DatapathUserspace}
	for range 2 { // it may be repeated
		if err := node.Remove(t.Context(), a, bridge); err != nil {
			t.Fatal(err)
		}
		if after := w.state(); after != before {
			t.Errorf("it was\n%s\nand is\n%s", before, after)
		}
	}
	w.allowed("stranger", "/after")
}
