package flowexport

import (
	"context"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/fleet"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// poke has all exports looked at, a moment later.
func (r *reconciler) poke(ctx context.Context, q queue) {
	all, err := r.exports(ctx)
	if err != nil {
		logf.FromContext(ctx).Error(err, "Cannot read FlowExports")
		return
	}
	for i := range all {
		q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all[i])}, r.Settle)
	}
}

func (r *reconciler) onAll() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, _ event.CreateEvent, q queue) { r.poke(ctx, q) },
		UpdateFunc: func(ctx context.Context, _ event.UpdateEvent, q queue) { r.poke(ctx, q) },
		DeleteFunc: func(ctx context.Context, _ event.DeleteEvent, q queue) { r.poke(ctx, q) },
	}
}

// onReports looks at all exports when a node says something else of any: there are few.
func (r *reconciler) onReports() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, _ event.CreateEvent, q queue) { r.poke(ctx, q) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			before, okA := e.ObjectOld.(*v1alpha1.NodeInspection)
			after, okB := e.ObjectNew.(*v1alpha1.NodeInspection)
			if okA && okB && !equality.Semantic.DeepEqual(before.Status.FlowExports, after.Status.FlowExports) {
				r.poke(ctx, q)
			}
		},
		DeleteFunc: func(ctx context.Context, _ event.DeleteEvent, q queue) { r.poke(ctx, q) },
	}
}

// nodeTurns lets through that a node is ready or not, or has other labels.
func nodeTurns() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		a, okA := e.ObjectOld.(*corev1.Node)
		b, okB := e.ObjectNew.(*corev1.Node)
		return !okA || !okB || fleet.Down(a) != fleet.Down(b) || !reflect.DeepEqual(a.Labels, b.Labels)
	}}
}

func deletionStarted() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetDeletionTimestamp().IsZero() != e.ObjectNew.GetDeletionTimestamp().IsZero()
	}}
}
