package l7policy

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/config/argocd"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

const statesFile = "testdata/states.yaml"

// TestEveryStateIsToldRight goes through everything that can be known of a policy on two nodes, and compares what kstatus and Argo CD
// make of the status with what is so: Current only when it is enforced everywhere, Failed only when a person must change it, and
// InProgress else. The different statuses that come out stand in testdata/states.yaml, for tests on an API server; rewrite it with
// UPDATE=1.
func TestEveryStateIsToldRight(t *testing.T) {
	seen := map[string]map[string]any{}
	cases := 0
	for _, k := range everythingKnown() {
		cases++
		now := aggregate(k)
		key := signature(now)
		if _, ok := seen[key]; !ok {
			seen[key] = stateOf(t, now)
		}
		kstatus := seen[key]["kstatus"]
		want := status.InProgressStatus.String()
		switch {
		case mustBeChanged(k):
			want = status.FailedStatus.String()
		case enforced(k):
			want = status.CurrentStatus.String()
		}
		if kstatus != want {
			t.Fatalf("kstatus says %s, want %s, of the status\n%s\nof\n%+v", kstatus, want, key, k)
		}
		if health := seen[key]["health"]; (health == "Healthy") != (want == "Current") || want == "Failed" && health != "Degraded" {
			t.Fatalf("Argo CD says %s where kstatus says %s, of the status\n%s", health, want, key)
		}
	}
	t.Logf("%d cases, %d different statuses", cases, len(seen))
	compareStates(t, seen)
}

// everythingKnown is every combination of what is known.
func everythingKnown() []known {
	const generation = 3
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var reports []*v1alpha1.NodePolicy
	for _, r := range []v1alpha1.NodePolicy{
		{ObservedGeneration: generation - 1, Programmed: true, Enforced: true},
		{ObservedGeneration: generation - 1, Reason: node.ReasonRulesRefused, Message: "too many rules"},
		{ObservedGeneration: generation, Programmed: true, Enforced: true},
		{ObservedGeneration: generation, Programmed: true, Enforced: true, Degraded: node.ReasonFlowsOverwritten, DegradedMessage: "12 flows were put back"},
		{ObservedGeneration: generation, Programmed: true, Degraded: node.ReasonEngineNotInspecting, DegradedMessage: "the engine does not answer"},
		{ObservedGeneration: generation, Programmed: true},
		{ObservedGeneration: generation, Reason: node.ReasonRulesRefused, Message: "too many rules"},
		{ObservedGeneration: generation, Reason: node.ReasonNotProgrammed, Message: "the switch does not answer"},
	} {
		reports = append(reports, &r)
	}
	var views []nodeView
	both := []bool{false, true}
	for _, report := range append(reports, nil) {
		for _, down := range both {
			for _, covered := range both {
				for _, silent := range both {
					for _, joined := range both {
						views = append(views, nodeView{down: down, covered: covered, silent: silent, joined: joined, report: report})
					}
				}
			}
		}
	}
	nodes := [][]nodeView{nil}
	for i := range views {
		for j := i; j < len(views); j++ {
			one, two := views[i], views[j]
			one.name, two.name = "node-1", "node-2"
			nodes = append(nodes, []nodeView{one, two})
		}
	}
	is := func(kind string, ok bool, good, bad string) metav1.Condition {
		if ok {
			return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: good, Message: "All is well."}
		}
		return metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: bad, Message: "Something is wrong."}
	}
	settled := v1alpha1.L7PolicyStatus{Conditions: []metav1.Condition{
		{Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionTrue, ObservedGeneration: generation},
	}}
	var all []known
	for _, n := range nodes {
		for _, e := range []engineState{{}, {exists: true}, {exists: true, leaving: true}} {
			for _, before := range []v1alpha1.L7PolicyStatus{{}, settled} {
				for _, findings := range [][]metav1.Condition{
					{is("Accepted", true, "Accepted", ""), is("ResolvedRefs", true, "ResolvedRefs", "")},
					{is("Accepted", true, "Accepted", ""), is("ResolvedRefs", false, "", plan.ReasonServiceNotFound)},
					{is("Accepted", false, "", plan.ReasonInvalid), is("ResolvedRefs", true, "ResolvedRefs", "")},
				} {
					all = append(all, known{generation: generation, findings: findings, engine: e, nodes: n, before: before, now: at})
				}
			}
		}
	}
	return all
}

// mustBeChanged says whether only a change of the policy helps: it is wrong, or a node cannot take it as it is now.
func mustBeChanged(k known) bool {
	return accepted(k) == metav1.ConditionFalse || slices.ContainsFunc(counted(k), func(v nodeView) bool {
		return v.report != nil && v.report.ObservedGeneration == k.generation && v.report.Reason == node.ReasonRulesRefused && (v.covered || !k.engine.exists)
	})
}

// enforced says whether every node with selected Pods judges packets by the policy as it is now. Nodes that are down have no packets;
// one that Pods have only just come to may take a moment to say so.
func enforced(k known) bool {
	nodes := counted(k)
	settled := k.engine.exists && len(k.before.Conditions) > 0
	nodes = slices.DeleteFunc(nodes, func(v nodeView) bool { return settled && v.covered && v.joined && v.report == nil })
	if len(nodes) == 0 {
		return true // nothing is to be enforced
	}
	return k.engine.exists && !k.engine.leaving && !slices.ContainsFunc(nodes, func(v nodeView) bool {
		r := v.report
		return !v.covered || v.silent || r == nil || r.ObservedGeneration != k.generation || !r.Programmed || !r.Enforced
	})
}

// counted are the nodes without those that are down and say nothing.
func counted(k known) []nodeView {
	return slices.DeleteFunc(slices.Clone(k.nodes), func(v nodeView) bool { return v.down && (v.report == nil || v.silent) })
}

func accepted(k known) metav1.ConditionStatus {
	return find(k.findings, v1alpha1.ConditionAccepted).Status
}

// signature is what tells statuses apart here.
func signature(s v1alpha1.L7PolicyStatus) string {
	var b strings.Builder
	for _, c := range s.Conditions {
		fmt.Fprintf(&b, "%s=%s/%s ", c.Type, c.Status, c.Reason)
	}
	return b.String()
}

// stateOf is a status in the form of testdata/states.yaml, with what kstatus and Argo CD make of it.
func stateOf(t *testing.T, s v1alpha1.L7PolicyStatus) map[string]any {
	t.Helper()
	p := &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Name: "p", Generation: s.ObservedGeneration}, Status: s}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(p)
	if err != nil {
		t.Fatal(err)
	}
	result, err := status.Compute(&unstructured.Unstructured{Object: object})
	if err != nil {
		t.Fatal(err)
	}
	health, err := argocd.HealthOf(t.Context(), "L7Policy", object)
	if err != nil {
		t.Fatal(err)
	}
	written := object["status"].(map[string]any)
	delete(written, "observedGeneration")
	for _, c := range written["conditions"].([]any) {
		delete(c.(map[string]any), "observedGeneration")
		delete(c.(map[string]any), "lastTransitionTime")
	}
	return map[string]any{
		"kind": "L7Policy", "observed": "current", "status": written, "health": health.Status, "kstatus": result.Status.String(),
	}
}

// compareStates compares the different statuses with the golden file.
func compareStates(t *testing.T, seen map[string]map[string]any) {
	t.Helper()
	var list []map[string]any
	keys := make([]string, 0, len(seen))
	for key := range seen {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, cmp.Compare)
	for i, key := range keys {
		seen[key]["name"] = fmt.Sprintf("state-%d", i+1)
		list = append(list, seen[key])
	}
	got, err := yaml.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	got = append([]byte("# Every different status of an L7Policy that the controller can write, and what is made of it. See states_test.go.\n"), got...)
	if os.Getenv("UPDATE") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(statesFile, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(statesFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not current; if that is meant, rewrite it: UPDATE=1 go test ./controllers/l7policy -run TestEveryState", statesFile)
	}
}
