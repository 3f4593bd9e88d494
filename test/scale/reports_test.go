package scale_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// reporters write the nodes' reports, as their agents would.
type reporters struct {
	world   *world
	reports []*v1alpha1.NodeInspection
	// policies are those of each node, by their place in the world.
	policies [][]int
}

func newReporters(w *world) *reporters {
	r := &reporters{world: w, reports: make([]*v1alpha1.NodeInspection, w.nodes), policies: make([][]int, w.nodes)}
	for i := range w.nodes {
		r.reports[i] = &v1alpha1.NodeInspection{ObjectMeta: metav1.ObjectMeta{Name: w.node(i)}}
	}
	for k, policy := range w.policies {
		selector := labels.SelectorFromSet(policy.Spec.PodSelector.MatchLabels)
		seen := map[int]bool{}
		for i, pod := range w.pods {
			if node := i % w.nodes; pod.Namespace == policy.Namespace && selector.Matches(labels.Set(pod.Labels)) && !seen[node] {
				seen[node] = true
				r.policies[node] = append(r.policies[node], k)
			}
		}
	}
	return r
}

func (r *reporters) create(t *testing.T) {
	t.Helper()
	each(t, len(r.reports), func(ctx context.Context, i int) error { return cluster.Client.Create(ctx, r.reports[i]) })
}

// report writes a node's report: it applies its policies in the generation that they have, and has denied so much.
func (r *reporters) report(ctx context.Context, node int, denied int64) error {
	object := r.reports[node]
	now := metav1.Now()
	object.Status = v1alpha1.NodeInspectionStatus{Reported: &now, AgentVersion: "v0.1.0", PolicyCount: int32(len(r.policies[node]))}
	for _, k := range r.policies[node] {
		p := r.world.policies[k]
		object.Status.Policies = append(object.Status.Policies, v1alpha1.NodePolicy{
			Namespace: p.Namespace, Name: p.Name, ObservedGeneration: p.Generation, Programmed: true, Enforced: true, Pods: 1,
			Denied: denied, LastDenied: &now,
		})
	}
	return cluster.Client.Status().Update(ctx, object)
}

// flood has all nodes report as fast as they can, with counts that rise, and returns how many reports were written.
func (r *reporters) flood(t *testing.T, duration time.Duration) int64 {
	t.Helper()
	var written atomic.Int64
	end := time.Now().Add(duration)
	for round := int64(1); time.Now().Before(end); round++ {
		each(t, len(r.reports), func(ctx context.Context, i int) error {
			if time.Now().After(end) {
				return nil
			}
			written.Add(1)
			return r.report(ctx, i, round)
		})
	}
	return written.Load()
}
