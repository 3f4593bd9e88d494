package ruleset

import (
	"errors"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/config/argocd"
	"github.com/meerkat-dev/meerkat/controllers/ruleset/rollout"
)

// TestEveryStateIsToldRight goes through everything that the conditions are made of, on two nodes, and compares what kstatus and Argo CD
// make of them with what is so: Current only when every node that needs the rule set runs what the spec makes, Failed only when a person
// must change something, and InProgress else.
func TestEveryStateIsToldRight(t *testing.T) {
	const before, newest = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
	var nodes []rollout.Node
	for _, needs := range []bool{false, true} {
		for _, reports := range []bool{false, true} {
			nodes = append(nodes, rollout.Node{Needs: needs, Reports: reports})
			for _, revision := range []string{"", before, newest} {
				for _, healthy := range []bool{false, true} {
					nodes = append(nodes, rollout.Node{Needs: needs, Reports: reports, Report: &v1alpha1.NodeRuleSet{Revision: revision, Healthy: healthy}})
				}
			}
		}
	}
	found := map[status.Status]int{}
	told := map[string]judgement{}
	for _, phase := range []v1alpha1.RolloutPhase{"", "Validating", "Canary", "Rolling", "Done", "RolledBack", "Refused"} {
		for _, runs := range []string{"", before, newest} {
			if (phase == "Rolling" || phase == "Done") != (runs == newest) {
				continue // it cannot be
			}
			for i := range nodes {
				for j := i; j < len(nodes); j++ {
					one, two := nodes[i], nodes[j]
					one.Name, two.Name = "node-1", "node-2"
					for _, wrong := range []string{"", "faults", "unread", "unmade"} {
						f := &facts{generation: 3, before: &v1alpha1.RuleSetStatus{}, nodes: []rollout.Node{one, two}, readings: []reading{{name: "local"}}}
						f.after = statusOf(phase, runs, newest, f.nodes)
						switch wrong {
						case "faults":
							f.faults, f.unmade = []error{errors.New("spec.disable[0].regex: no regular expression")}, true
						case "unread", "unmade":
							f.readings[0].err, f.unmade = errors.New("the server is away"), wrong == "unmade"
						}
						found[judge(t, f, newest, wrong, told)]++
					}
				}
			}
		}
	}
	t.Log(found)
	if len(found) != 3 {
		t.Errorf("only %v came up", found)
	}
}

// statusOf is a status as package rollout makes it.
func statusOf(phase v1alpha1.RolloutPhase, runs, newest string, nodes []rollout.Node) *v1alpha1.RuleSetStatus {
	s := &v1alpha1.RuleSetStatus{ObservedGeneration: 3, Revision: runs}
	if phase == "" {
		return s
	}
	s.Rollout = &v1alpha1.RolloutStatus{Revision: newest, Phase: phase}
	switch phase {
	case v1alpha1.RolloutCanary:
		s.Rollout.Canaries = []v1alpha1.CanaryNode{{Node: "node-1"}}
	case v1alpha1.RolloutValidating:
		s.Rollout.Validator = "node-1"
	case v1alpha1.RolloutRefused, v1alpha1.RolloutRolledBack:
		s.Rollout.Reason, s.Rollout.Message = "TooManyAlerts", "Far too many."
	case v1alpha1.RolloutRolling, v1alpha1.RolloutDone:
	}
	for i := range nodes {
		if nodes[i].Needs {
			s.Rollout.Desired++
		}
	}
	return s
}

// judge compares what is told with what is so.
func judge(t *testing.T, f *facts, newest, wrong string, told map[string]judgement) status.Status {
	t.Helper()
	f.after.Conditions = f.conditions(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	for _, c := range f.after.Conditions {
		if c.Reason == "" || c.Message == "" || c.ObservedGeneration != 3 || c.LastTransitionTime != metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
			t.Fatalf("a condition says nothing: %+v", c)
		}
	}
	want := status.InProgressStatus
	phase := v1alpha1.RolloutPhase("")
	if f.after.Rollout != nil {
		phase = f.after.Rollout.Phase
	}
	everywhere := phase == v1alpha1.RolloutDone
	for i := range f.nodes {
		if n := &f.nodes[i]; n.Needs && (n.Report == nil || n.Report.Revision != newest) {
			everywhere = false
		}
	}
	switch {
	case wrong == "faults":
		want = status.FailedStatus
	case wrong == "unmade": // what is told of the revision before does not matter
	case phase == v1alpha1.RolloutRefused, phase == v1alpha1.RolloutRolledBack:
		want = status.FailedStatus
	case everywhere:
		want = status.CurrentStatus
	}
	got := toldOf(t, f.after, told)
	if got.kstatus != want {
		t.Fatalf("kstatus says %s, want %s, of\n%+v\nof\n%+v", got.kstatus, want, f.after.Conditions, f.after.Rollout)
	}
	if (got.health == "Healthy") != (want == status.CurrentStatus) || (got.health == "Degraded") != (want == status.FailedStatus) {
		t.Fatalf("Argo CD says %s where kstatus says %s, of\n%+v", got.health, got.kstatus, f.after.Conditions)
	}
	return got.kstatus
}

// judgement is what others make of a status.
type judgement struct {
	kstatus status.Status
	health  string
}

// toldOf asks kstatus and Argo CD, once for each set of conditions.
func toldOf(t *testing.T, s *v1alpha1.RuleSetStatus, told map[string]judgement) judgement {
	t.Helper()
	signature := ""
	for _, c := range s.Conditions {
		signature += c.Type + " " + string(c.Status) + " " + c.Reason + "\n"
	}
	if known, ok := told[signature]; ok {
		return known
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(s)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "local", "generation": int64(3)}, "status": fields}}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("RuleSet"))
	result, err := status.Compute(u)
	if err != nil {
		t.Fatal(err)
	}
	health, err := argocd.HealthOf(t.Context(), "RuleSet", u.Object)
	if err != nil {
		t.Fatal(err)
	}
	told[signature] = judgement{result.Status, health.Status}
	return told[signature]
}
