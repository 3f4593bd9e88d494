package flowexport

import (
	"context"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/config/argocd"
	"github.com/meerkat-dev/meerkat/dataplane/flowexport/protocols"
)

// TestEveryStateIsToldRight goes through everything that can be known of an export on two nodes, and compares what kstatus and Argo CD make of
// the status with what is so: Current only when every node exports and no collector is known to be away, Failed only when a person must change
// something, and InProgress else.
func TestEveryStateIsToldRight(t *testing.T) {
	const generation = 3
	both := []bool{false, true}
	var views []view
	for _, report := range []*v1alpha1.NodeFlowExport{
		nil,
		{ObservedGeneration: generation - 1, Programmed: true},
		{ObservedGeneration: generation, Programmed: true},
		{ObservedGeneration: generation, Programmed: true, Degraded: ReasonCollectorUnreachable, DegradedMessage: "it refuses"},
		{ObservedGeneration: generation, Programmed: true, Degraded: "RecordsLost", DegradedMessage: "seven"},
		{ObservedGeneration: generation, Reason: "ConnectionsUnreadable", Message: "the switch does not answer"},
		{ObservedGeneration: generation},
	} {
		for _, down := range both {
			for _, silent := range both {
				views = append(views, view{down: down, silent: silent, report: report})
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
			for _, faults := range [][]string{nil, {"spec.labelKeys[0]: no key"}} {
				for _, unknown := range [][]protocols.Unknown{nil, {{Path: "spec.protocols[0]", Name: "tpc"}}} {
					k := &known{
						generation: generation, faults: faults, unknown: unknown, untracked: []uint8{47}, engine: engine,
						before: &v1alpha1.FlowExportStatus{}, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
					}
					if engine {
						k.nodes = n
					}
					want := status.InProgressStatus
					switch {
					case len(faults)+len(unknown) > 0:
						want = status.FailedStatus
					case engine && exports(k):
						want = status.CurrentStatus
					}
					kstatus, health := tellOf(t, k)
					if kstatus != want {
						t.Fatalf("kstatus says %s, want %s, of\n%+v\nof\n%+v", kstatus, want, aggregate(k).Conditions, k)
					}
					if (health == "Healthy") != (want == status.CurrentStatus) || want == status.FailedStatus && health != "Degraded" {
						t.Fatalf("Argo CD says %s where kstatus says %s, of\n%+v", health, kstatus, k)
					}
					found[kstatus.String()]++
				}
			}
		}
	}
	if t.Log(found); len(found) != 3 {
		t.Errorf("only %v came up", found)
	}
}

// exports tells whether every node that counts does what is written: one that is down is not waited for, unless its agent says otherwise.
func exports(k *known) bool {
	for i := range k.nodes {
		v := &k.nodes[i]
		if v.down && (v.report == nil || v.silent) {
			continue
		}
		if r := v.report; v.silent || r == nil || r.ObservedGeneration != k.generation || !r.Programmed || r.Degraded == ReasonCollectorUnreachable {
			return false
		}
	}
	return true
}

func tellOf(t *testing.T, k *known) (kstatus status.Status, health string) {
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
	object := map[string]any{"metadata": map[string]any{"name": "connections", "generation": k.generation}, "status": fields}
	u := &unstructured.Unstructured{Object: object}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("FlowExport"))
	result, err := status.Compute(u)
	if err != nil {
		t.Fatal(err)
	}
	h, err := argocd.HealthOf(context.Background(), "FlowExport", u.Object)
	if err != nil {
		t.Fatal(err)
	}
	return result.Status, h.Status
}
