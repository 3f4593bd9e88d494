package engine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/config/argocd"
)

const statesFile = "testdata/states.yaml"

// TestEveryStateIsToldRight goes through everything that can be seen of two nodes, and compares what kstatus and Argo CD make of the
// Engine's status with what is so: Current only when every node that is meant inspects by the Engine as it is, Failed only when a
// person must change it, and InProgress else. The different statuses stand in testdata/states.yaml, for tests on an API server;
// rewrite it with UPDATE=1.
func TestEveryStateIsToldRight(t *testing.T) {
	different := map[string]map[string]any{}
	all := everythingSeen()
	for _, s := range all {
		engine := &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.EngineName, Generation: 3}}
		engine.Status = summarize(engine, s)
		var key strings.Builder
		for _, c := range engine.Status.Conditions {
			fmt.Fprintf(&key, "%s=%s/%s ", c.Type, c.Status, c.Reason)
		}
		state := stateOf(t, engine)
		different[key.String()] = state
		want := status.InProgressStatus.String()
		switch {
		case s.refused != nil:
			want = status.FailedStatus.String()
		case inspects(s):
			want = status.CurrentStatus.String()
		}
		if state["kstatus"] != want {
			t.Fatalf("kstatus says %s, want %s, of the status\n%s\nof\n%+v", state["kstatus"], want, key.String(), s)
		}
		if health := state["health"]; (health == "Healthy") != (want == "Current") || (health == "Degraded") != (want == "Failed") {
			t.Fatalf("Argo CD says %s where kstatus says %s, of the status\n%s", health, want, key.String())
		}
	}
	t.Logf("%d cases, %d different statuses", len(all), len(different))
	compareStates(t, different)
}

// inspects says whether there are nodes, all of them run the agent as the Engine says, and report that they inspect.
func inspects(s seen) bool {
	if s.node == nil || s.openvswitch == nil || s.node.Status.ObservedGeneration < s.node.Generation || s.openvswitch.Status.ObservedGeneration < s.openvswitch.Generation {
		return false
	}
	desired := s.node.Status.DesiredNumberScheduled
	return len(s.ready) > 0 && len(s.failing) == 0 && int32(len(s.ready)) >= desired && s.node.Status.UpdatedNumberScheduled >= desired
}

// everythingSeen is every combination of what can be seen of two nodes.
func everythingSeen() []seen {
	var sets []*appsv1.DaemonSet
	for desired := range int32(3) {
		for updated := range desired + 1 {
			for behind := range int64(2) {
				sets = append(sets, &appsv1.DaemonSet{
					ObjectMeta: metav1.ObjectMeta{Namespace: "meerkat-system", Generation: 2},
					Status:     appsv1.DaemonSetStatus{ObservedGeneration: 2 - behind, DesiredNumberScheduled: desired, UpdatedNumberScheduled: updated},
				})
			}
		}
	}
	sets = append(sets, nil)
	nodes := []string{"node-1", "node-2"}
	var all []seen
	for _, node := range sets {
		for _, openvswitch := range sets {
			for ready := range 3 {
				for failing := range 3 - ready {
					for _, refused := range []error{nil, errors.New("the quantity is negative")} {
						all = append(all, seen{node: node, openvswitch: openvswitch, ready: nodes[:ready], failing: nodes[ready : ready+failing], refused: refused})
					}
				}
			}
		}
	}
	return all
}

// stateOf is an Engine's status in the form of testdata/states.yaml, with what kstatus and Argo CD make of it.
func stateOf(t *testing.T, engine *v1alpha1.Engine) map[string]any {
	t.Helper()
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(engine)
	if err != nil {
		t.Fatal(err)
	}
	result, err := status.Compute(&unstructured.Unstructured{Object: object})
	if err != nil {
		t.Fatal(err)
	}
	health, err := argocd.HealthOf(t.Context(), "Engine", object)
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
		"kind": "Engine", "observed": "current", "status": written, "health": health.Status, "kstatus": result.Status.String(),
	}
}

// compareStates compares the different statuses with the golden file.
func compareStates(t *testing.T, different map[string]map[string]any) {
	t.Helper()
	keys := make([]string, 0, len(different))
	for key := range different {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var list []map[string]any
	for i, key := range keys {
		different[key]["name"] = fmt.Sprintf("state-%d", i+1)
		list = append(list, different[key])
	}
	got, err := yaml.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	got = append([]byte("# Every different status of an Engine that the controller can write, and what is made of it. See states_test.go.\n"), got...)
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
		t.Errorf("%s is not current; if that is meant, rewrite it: UPDATE=1 go test ./controllers/engine -run TestEveryState", statesFile)
	}
}
