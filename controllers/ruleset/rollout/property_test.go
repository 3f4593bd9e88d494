package rollout_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/ruleset/rollout"
)

// TestAnyCourseOfThings plays clusters in which nodes come, go, fall silent, refuse and storm, and rule sets change, while the manager
// starts anew before each step: it has nothing but the status. At each moment:
//
//   - no node is to run a revision that no engine has loaded, or that was refused;
//   - nodes are to run two revisions at most: the one before, and the newest on no more canaries than the share;
//   - what was rolled back is on no node, and they run again what they ran before the canaries;
//
// and in the end, when nothing changes any more and all is well, the newest is everywhere.
func TestAnyCourseOfThings(t *testing.T) {
	phases := map[v1alpha1.RolloutPhase]int{}
	for seed := range uint64(400) {
		w := newWorld(t, seed)
		for range 150 {
			w.disturb()
			w.step()
			phases[w.status.Rollout.Phase]++
		}
		w.calm()
	}
	t.Logf("steps in each phase: %v", phases)
	for _, phase := range []v1alpha1.RolloutPhase{"Validating", "Canary", "Rolling", "Done", "RolledBack", "Refused"} {
		if phases[phase] < 100 {
			t.Errorf("the phase %s came up %d times: this shows little", phase, phases[phase])
		}
	}
}

// world is a cluster as far as one rule set goes.
type world struct {
	t    *testing.T
	seed uint64
	r    *rand.Rand
	now  time.Time

	spec       *v1alpha1.RuleSetRollout
	generation int64
	newest     string
	revisions  int
	bad, storm map[string]bool // revisions that the engine refuses, and that raise storms
	loads      map[string]bool // revisions that an engine has said it loads
	nodes      map[string]*rollout.Node
	quiet      bool

	status v1alpha1.RuleSetStatus
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 7)), now: began, nodes: map[string]*rollout.Node{}, //nolint:gosec // The same each time.
		bad: map[string]bool{}, storm: map[string]bool{}, loads: map[string]bool{},
	}
	for i := range 1 + w.r.IntN(6) {
		w.nodes[fmt.Sprint("n", i)] = &rollout.Node{Needs: true, Reports: true}
	}
	w.change()
	return w
}

// change makes another revision, and perhaps another way of rolling out.
func (w *world) change() {
	w.generation++
	w.revisions++
	w.newest = fmt.Sprintf("%012x", w.revisions)
	w.bad[w.newest], w.storm[w.newest] = w.r.IntN(5) == 0, w.r.IntN(4) == 0
	w.spec = nil
	if w.r.IntN(4) > 0 {
		c := intstr.FromInt32(int32(1 + w.r.IntN(4)))
		if w.r.IntN(2) == 0 {
			c = intstr.FromString(fmt.Sprintf("%d%%", 1+w.r.IntN(100)))
		}
		w.spec = &v1alpha1.RuleSetRollout{Canary: &c, Hold: &metav1.Duration{Duration: time.Duration(w.r.IntN(20)) * time.Minute}}
	}
}

// disturb lets time pass, and things happen.
func (w *world) disturb() {
	w.now = w.now.Add(time.Duration(w.r.IntN(90)) * time.Second)
	name := fmt.Sprint("n", w.r.IntN(8))
	n := w.nodes[name]
	switch w.r.IntN(25) {
	case 0:
		w.change()
	case 1:
		w.generation++ // the same rules by another spec
	case 2:
		delete(w.nodes, name)
	case 3, 4:
		if n == nil {
			w.nodes[name] = &rollout.Node{Needs: true, Reports: true}
		}
	case 5:
		if n != nil {
			n.Needs = !n.Needs
		}
	case 6:
		if n != nil {
			n.Reports = !n.Reports
		}
	case 7:
		if n != nil && n.Report != nil {
			n.Report.Healthy = false
		}
	case 8:
		if w.revisions > 1 { // back to a revision of before, as by git revert
			w.generation++
			w.newest = fmt.Sprintf("%012x", 1+w.r.IntN(w.revisions))
		}
	}
	for name, n := range w.nodes {
		if n.Reports && (w.quiet || w.r.IntN(2) == 0) {
			w.report(name, n)
		}
	}
}

// report has an agent do what the status says, and tell.
func (w *world) report(name string, n *rollout.Node) {
	if n.Report == nil {
		n.Report = &v1alpha1.NodeRuleSet{}
	}
	if should := w.status.RunsRevision(name); n.Needs && n.Report.Revision != should {
		loaded := metav1.NewTime(w.now)
		*n.Report = v1alpha1.NodeRuleSet{Revision: should, Loaded: &loaded, Validation: n.Report.Validation}
	}
	n.Report.Healthy = true
	if w.storm[n.Report.Revision] {
		n.Report.Alerts += int64(w.r.IntN(5000))
	}
	if r := w.status.Rollout; r != nil && r.Validator == name && r.Phase == v1alpha1.RolloutValidating {
		v := &v1alpha1.NodeValidation{Revision: r.Revision, Loaded: 9}
		switch {
		case !w.quiet && w.r.IntN(4) == 0:
			v.Loaded, v.Error = 0, "no space"
		case w.bad[r.Revision]:
			v.Failed = 1
		default:
			w.loads[r.Revision] = true
		}
		n.Report.Validation = v
	}
}

// step has a manager that has only just started take a step, and looks at what nodes are to run.
func (w *world) step() {
	w.status = w.stored()
	var nodes []rollout.Node
	needing := 0
	for name, n := range w.nodes {
		one := *n
		one.Name, one.Report = name, n.Report.DeepCopy()
		nodes = append(nodes, one)
		if n.Needs {
			needing++
		}
	}
	before := w.status
	after, _ := rollout.Step(rollout.StateOf(&before), rollout.Input{
		Key: "shop/local", Spec: w.spec, Newest: w.newest, Generation: w.generation, Nodes: nodes, Now: w.now,
	})
	w.status.Revision, w.status.Previous, w.status.Rollout = after.Revision, after.Previous, after.Rollout
	w.look(&before, needing)
}

// stored is the status after it was written and read.
func (w *world) stored() v1alpha1.RuleSetStatus {
	data, err := json.Marshal(w.status)
	if err != nil {
		w.t.Fatal(err)
	}
	var s v1alpha1.RuleSetStatus
	if err := json.Unmarshal(data, &s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) look(before *v1alpha1.RuleSetStatus, needing int) {
	s := &w.status
	newer := 0
	for name := range w.nodes {
		revision := s.RunsRevision(name)
		switch {
		case revision != "" && !w.loads[revision]:
			w.fail("%s is to run %s, which no engine has loaded", name, revision)
		case revision != s.Revision && revision != s.Rollout.Revision:
			w.fail("%s is to run %s, which is neither the one before nor the newest", name, revision)
		case revision != s.Revision:
			newer++
		}
	}
	if len(s.Rollout.Canaries) > 0 {
		if share := rollout.Share(*w.spec.Canary, needing); newer > share || len(s.Rollout.Canaries) > share {
			w.fail("%d nodes run the newest, of %d that need it, and %d may", newer, needing, share)
		}
		if newer == 0 {
			w.fail("no canary is there")
		}
	}
	if s.Revision != before.Revision && s.Previous != before.Revision {
		w.fail("nodes ran %s, and the one before is %s", before.Revision, s.Previous)
	}
	if s.Rollout.Phase == v1alpha1.RolloutRolledBack && (newer > 0 || s.Revision != before.Revision) {
		w.fail("rolled back, %d nodes run the newest, and the others %s instead of %s", newer, s.Revision, before.Revision)
	}
}

// calm lets everything be well: then the newest is soon everywhere.
func (w *world) calm() {
	w.quiet = true
	w.bad, w.storm = map[string]bool{}, map[string]bool{}
	w.change()
	w.bad, w.storm = map[string]bool{}, map[string]bool{}
	for _, n := range w.nodes {
		n.Reports, n.Needs = true, true
	}
	w.nodes["n0"] = &rollout.Node{Needs: true, Reports: true}
	for range 60 {
		w.now = w.now.Add(time.Minute)
		for name, n := range w.nodes {
			w.report(name, n)
		}
		w.step()
	}
	if w.status.Revision != w.newest || w.status.Rollout.Phase != v1alpha1.RolloutDone {
		w.fail("all is well, and nodes run %s, not %s: %+v", w.status.Revision, w.newest, w.status.Rollout)
	}
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d: %s\n%+v", w.seed, fmt.Sprintf(format, args...), w.status.Rollout)
}
