package trafficinspection

import (
	"context"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
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

// poke has the inspections of a namespace looked at, a moment later; of all when it is empty. Those that which refuses are passed over.
func (r *reconciler) poke(ctx context.Context, q queue, namespace string, which func(*v1alpha1.TrafficInspection) bool) {
	all, err := r.inspections(ctx, namespace)
	if err != nil {
		logf.FromContext(ctx).Error(err, "Cannot read TrafficInspections")
		return
	}
	for i := range all {
		if which == nil || which(&all[i]) {
			q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all[i])}, r.Settle)
		}
	}
}

// each makes a handler that does the same whatever happens to an object.
func each(do func(context.Context, queue, client.Object)) handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { do(ctx, q, e.Object) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) { do(ctx, q, e.ObjectNew) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { do(ctx, q, e.Object) },
	}
}

func (r *reconciler) onAll() handler.EventHandler {
	return each(func(ctx context.Context, q queue, _ client.Object) { r.poke(ctx, q, "", nil) })
}

// onSets looks at the inspections that name a rule set.
func (r *reconciler) onSets() handler.EventHandler {
	return each(func(ctx context.Context, q queue, o client.Object) {
		kind := "RuleSet"
		if _, cluster := o.(*v1alpha1.ClusterRuleSet); cluster {
			kind = "ClusterRuleSet"
		}
		r.poke(ctx, q, o.GetNamespace(), func(i *v1alpha1.TrafficInspection) bool { return fleet.Uses(i, kind, o.GetNamespace(), o.GetName()) })
	})
}

// onPods looks at the inspections of the namespace when Pods come to nodes or leave them.
func (r *reconciler) onPods() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { r.poke(ctx, q, e.Object.GetNamespace(), nil) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			a, okA := e.ObjectOld.(*corev1.Pod)
			b, okB := e.ObjectNew.(*corev1.Pod)
			if !okA || !okB || a.Spec.NodeName != b.Spec.NodeName || a.Status.Phase != b.Status.Phase || !reflect.DeepEqual(a.Labels, b.Labels) {
				r.poke(ctx, q, e.ObjectNew.GetNamespace(), nil)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { r.poke(ctx, q, e.Object.GetNamespace(), nil) },
	}
}

// onReports looks at the inspections that a node says something else of.
func (r *reconciler) onReports() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, _ event.CreateEvent, q queue) { r.poke(ctx, q, "", nil) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			before, okA := e.ObjectOld.(*v1alpha1.NodeInspection)
			after, okB := e.ObjectNew.(*v1alpha1.NodeInspection)
			if !okA || !okB {
				return
			}
			for name := range saysOther(before, after) {
				q.AddAfter(reconcile.Request{NamespacedName: name}, r.Settle)
			}
		},
		DeleteFunc: func(ctx context.Context, _ event.DeleteEvent, q queue) { r.poke(ctx, q, "", nil) },
	}
}

func saysOther(before, after *v1alpha1.NodeInspection) map[types.NamespacedName]bool {
	names := map[types.NamespacedName]bool{}
	was := map[types.NamespacedName]*v1alpha1.NodeTrafficInspection{}
	for i := range before.Status.Inspections {
		n := &before.Status.Inspections[i]
		was[types.NamespacedName{Namespace: n.Namespace, Name: n.Name}] = n
	}
	for i := range after.Status.Inspections {
		n := &after.Status.Inspections[i]
		name := types.NamespacedName{Namespace: n.Namespace, Name: n.Name}
		if old := was[name]; old == nil || !equality.Semantic.DeepEqual(old, n) {
			names[name] = true
		}
		delete(was, name)
	}
	for name := range was {
		names[name] = true
	}
	return names
}

// comesOrGoes lets nothing through but that an object is made or deleted.
func comesOrGoes() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }}
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
