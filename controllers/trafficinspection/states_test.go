package trafficinspection

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/config/argocd"
)

// TestEveryStateIsToldRight goes through everything that can be known of an inspection on two nodes, and compares what kstatus and Argo CD
// make of the status with what is so: Current only when the traffic is inspected everywhere, Failed only when a person must change
// something, and InProgress else.
func TestEveryStateIsToldRight(t *testing.T) {
	const generation = 3
	reports := []*v1alpha1.NodeTrafficInspection{
		nil,
		{ObservedGeneration: generation - 1, Programmed: true, Inspected: true},
		{ObservedGeneration: generation - 1, Reason: ReasonRulesRefused, Message: "line 3"},
		{ObservedGeneration: generation, Programmed: true, Inspected: true},
		{ObservedGeneration: generation, Programmed: true, Inspected: true, Degraded: "FlowsOverwritten", DegradedMessage: "they are back"},
		{ObservedGeneration: generation, Programmed: true, Degraded: "EngineNotInspecting", DegradedMessage: "it does not answer"},
		{ObservedGeneration: generation, Programmed: true},
		{ObservedGeneration: generation, Reason: ReasonRulesRefused, Message: "line 3"},
		{ObservedGeneration: generation, Reason: "NotProgrammed", Message: "the switch does not answer"},
		{ObservedGeneration: generation},
	}
	var views []view
	both := []bool{false, true}
	for _, report := range reports {
		for _, down := range both {
			for _, covered := range both {
				for _, silent := range both {
					views = append(views, view{down: down, covered: covered, silent: silent, report: report})
				}
			}
		}
	}
	nodes := [][]view{nil}
	for i := range views {
		for j := i; j < len(views); j++ {
			one, two := views[i], views[j]
			one.name, two.name = "node-1", "node-2"
			nodes = append(nodes, []view{one, two})
		}
	}
	found := map[string]int{}
	for _, n := range nodes {
		for _, engine := range both {
			for _, faults := range [][]string{nil, {"spec.placement: cannot be inline"}} {
				for _, missing := range [][]string{nil, {"RuleSet shop/local"}} {
					k := &known{
						generation: generation, faults: faults, missing: missing, engine: engine, nodes: n,
						before: &v1alpha1.TrafficInspectionStatus{}, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
					}
					kstatus, health, told := tellOf(t, k)
					want := status.InProgressStatus
					switch {
					case mustBeChanged(k):
						want = status.FailedStatus
					case inspected(k):
						want = status.CurrentStatus
					}
					if kstatus != want {
						t.Fatalf("kstatus says %s, want %s, of\n%+v\nof\n%+v", kstatus, want, told.Conditions, k)
					}
					if (health == "Healthy") != (want == status.CurrentStatus) || want == status.FailedStatus && health != "Degraded" {
						t.Fatalf("Argo CD says %s where kstatus says %s, of\n%+v", health, kstatus, told.Conditions)
					}
					found[kstatus.String()]++
				}
			}
		}
	}
	t.Log(found)
	if len(found) != 3 {
		t.Errorf("only %v came up", found)
	}
}

func tellOf(t *testing.T, k *known) (status.Status, string, v1alpha1.TrafficInspectionStatus) {
	t.Helper()
	told := aggregate(k)
	for _, c := range told.Conditions {
		if c.Reason == "" || c.Message == "" || c.ObservedGeneration != k.generation {
			t.Fatalf("a condition says nothing: %+v", c)
		}
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&told)
	if err != nil {
		t.Fatal(err)
	}
	object := map[string]any{"metadata": map[string]any{"name": "web", "generation": k.generation}, "status": fields}
	u := &unstructured.Unstructured{Object: object}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("TrafficInspection"))
	result, err := status.Compute(u)
	if err != nil {
		t.Fatal(err)
	}
	health, err := argocd.HealthOf(context.Background(), "TrafficInspection", u.Object)
	if err != nil {
		t.Fatal(err)
	}
	return result.Status, health.Status, told
}

// counts tells whether a node counts: one that is down is not waited for, unless its agent says otherwise.
func counts(v *view) bool { return !v.down || v.report != nil && !v.silent }

func mustBeChanged(k *known) bool {
	if len(k.faults) > 0 {
		return true
	}
	for i := range k.nodes {
		v := &k.nodes[i]
		if k.engine && counts(v) && v.covered && v.report != nil && v.report.ObservedGeneration == k.generation && v.report.Reason == ReasonRulesRefused {
			return true
		}
	}
	return false
}

func inspected(k *known) bool {
	if len(k.missing) > 0 {
		return false
	}
	for i := range k.nodes {
		v := &k.nodes[i]
		if !counts(v) {
			continue
		}
		if r := v.report; !k.engine || !v.covered || v.silent || r == nil || r.ObservedGeneration != k.generation || !r.Programmed || !r.Inspected {
			return false
		}
	}
	return true
}

// TestTally sums what nodes report, whatever they and managers forget.
func TestTally(t *testing.T) {
	at := func(seconds int) *metav1.Time {
		stamp := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, seconds, 0, time.UTC))
		return &stamp
	}
	node := func(name string, total, high int64, last *metav1.Time) view {
		return view{name: name, report: &v1alpha1.NodeTrafficInspection{Alerts: &v1alpha1.AlertCounts{Total: total, High: high, Last: last}}}
	}
	tally := newTally("a", nil, []view{node("n1", 5, 1, at(1)), node("n2", 3, 0, at(2))})
	for _, step := range []struct {
		nodes       []view
		total, high int64
		last        int
	}{
		{[]view{node("n1", 7, 2, at(5)), node("n2", 3, 0, at(2))}, 10, 2, 5},
		{[]view{node("n1", 2, 0, at(4)), node("n2", 3, 0, at(2))}, 12, 2, 5}, // its agent began anew
		{[]view{node("n2", 4, 1, nil)}, 13, 3, 5},                            // n1 is gone
		{[]view{node("n1", 2, 0, at(6)), {name: "n2"}}, 13, 3, 6},            // and back; n2 says nothing
	} {
		tally.take(step.nodes)
		if got := tally.totals; got.Total != step.total || got.High != step.high || !got.Last.Equal(at(step.last)) {
			t.Errorf("got %+v, want %+v", got, step)
		}
	}
	after := newTally("a", &tally.totals, []view{node("n1", 2, 0, at(6))})
	if after.totals.Total != 13 || after.totals.High != 3 || !after.totals.Last.Equal(at(6)) {
		t.Errorf("the manager that takes over begins with %+v", after.totals)
	}
}

// TestSignatures puts together what nodes tell.
func TestSignatures(t *testing.T) {
	one := func(sid, count int64, message string, second int) v1alpha1.SignatureCount {
		stamp := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, second, 0, time.UTC))
		return v1alpha1.SignatureCount{SID: sid, Count: count, Message: message, Last: &stamp}
	}
	node := func(all ...v1alpha1.SignatureCount) view {
		return view{report: &v1alpha1.NodeTrafficInspection{LastSignatures: all}}
	}
	var before []v1alpha1.SignatureCount
	for i := range 12 {
		before = append(before, one(int64(100+i), 1, "old", i))
	}
	before = append(before, one(2, 50, "before", 0))
	got := signatures(before, []view{node(one(1, 2, "a", 50), one(2, 3, "b", 40)), node(one(1, 5, "newer", 55)), {}})
	if len(got) != 10 || got[0].SID != 1 || got[0].Count != 7 || got[0].Message != "newer" || got[1].SID != 2 || got[1].Count != 50 || got[1].Message != "b" || got[2].SID != 111 {
		t.Errorf("got %+v", got)
	}
	if signatures(nil, nil) != nil {
		t.Error("something comes of nothing")
	}
}
