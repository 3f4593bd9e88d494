package ruleset

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

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

type queue = workqueue.TypedRateLimitingInterface[key]

// keyOf names a rule set.
func keyOf(o client.Object) key {
	if _, cluster := o.(*v1alpha1.ClusterRuleSet); cluster {
		return key{kindClusterRuleSet, "", o.GetName()}
	}
	return key{kindRuleSet, o.GetNamespace(), o.GetName()}
}

// onSets looks at a rule set that is new, gone, or says something else.
func (r *reconciler) onSets() handler.TypedEventHandler[client.Object, key] {
	return handler.TypedFuncs[client.Object, key]{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { q.Add(keyOf(e.Object)) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() || e.ObjectOld.GetUID() != e.ObjectNew.GetUID() {
				q.Add(keyOf(e.ObjectNew))
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { q.Add(keyOf(e.Object)) },
	}
}

// named are the rule sets that an inspection names.
func named(o client.Object) []key {
	inspection, ok := o.(*v1alpha1.TrafficInspection)
	if !ok {
		return nil
	}
	keys := make([]key, 0, len(inspection.Spec.RuleSets))
	for i := range inspection.Spec.RuleSets {
		reference := &inspection.Spec.RuleSets[i]
		k := key{reference.KindOf(), inspection.Namespace, reference.Name}
		if k.Kind == kindClusterRuleSet {
			k.Namespace = ""
		}
		keys = append(keys, k)
	}
	return keys
}

func (r *reconciler) onInspections() handler.TypedEventHandler[client.Object, key] {
	poke := func(q queue, objects ...client.Object) {
		for _, o := range objects {
			for _, k := range named(o) {
				q.AddAfter(k, r.Settle)
			}
		}
	}
	return handler.TypedFuncs[client.Object, key]{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { poke(q, e.Object) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() {
				poke(q, e.ObjectOld, e.ObjectNew)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { poke(q, e.Object) },
	}
}

// onPods looks at the rule sets of a namespace's inspections when Pods come to nodes or leave them.
func (r *reconciler) onPods() handler.TypedEventHandler[client.Object, key] {
	poke := func(ctx context.Context, q queue, o client.Object) {
		var inspections v1alpha1.TrafficInspectionList
		if err := r.client.List(ctx, &inspections, client.InNamespace(o.GetNamespace()), client.UnsafeDisableDeepCopy); err != nil {
			logf.FromContext(ctx).Error(err, "Cannot read TrafficInspections")
			return
		}
		for i := range inspections.Items {
			for _, k := range named(&inspections.Items[i]) {
				q.AddAfter(k, r.Settle)
			}
		}
	}
	return handler.TypedFuncs[client.Object, key]{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { poke(ctx, q, e.Object) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			a, okA := e.ObjectOld.(*corev1.Pod)
			b, okB := e.ObjectNew.(*corev1.Pod)
			if !okA || !okB || a.Spec.NodeName != b.Spec.NodeName || a.Status.Phase != b.Status.Phase || !reflect.DeepEqual(a.Labels, b.Labels) {
				poke(ctx, q, e.ObjectNew)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { poke(ctx, q, e.Object) },
	}
}

// onReports looks at the rule sets that a node says something else of. Counts matter only where the node is a canary.
func (r *reconciler) onReports() handler.TypedEventHandler[client.Object, key] {
	all := func(ctx context.Context, q queue) {
		var sets v1alpha1.RuleSetList
		var clusterSets v1alpha1.ClusterRuleSetList
		for _, list := range []client.ObjectList{&sets, &clusterSets} {
			if err := r.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
				logf.FromContext(ctx).Error(err, "Cannot read rule sets")
				return
			}
		}
		for i := range sets.Items {
			q.AddAfter(keyOf(&sets.Items[i]), r.Settle)
		}
		for i := range clusterSets.Items {
			q.AddAfter(keyOf(&clusterSets.Items[i]), r.Settle)
		}
	}
	return handler.TypedFuncs[client.Object, key]{
		CreateFunc: func(ctx context.Context, _ event.CreateEvent, q queue) { all(ctx, q) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			before, okA := e.ObjectOld.(*v1alpha1.NodeInspection)
			after, okB := e.ObjectNew.(*v1alpha1.NodeInspection)
			if !okA || !okB {
				return
			}
			if (before.Status.Reported == nil) != (after.Status.Reported == nil) {
				all(ctx, q)
				return
			}
			for k := range saysOther(before, after, r.onCanaries(ctx, after.Name)) {
				q.AddAfter(k, r.Settle)
			}
		},
		DeleteFunc: func(ctx context.Context, _ event.DeleteEvent, q queue) { all(ctx, q) },
	}
}

// onCanaries are the rule sets whose newest revision a node runs before others do.
func (r *reconciler) onCanaries(ctx context.Context, node string) map[key]bool {
	var sets v1alpha1.RuleSetList
	var clusterSets v1alpha1.ClusterRuleSetList
	for _, list := range []client.ObjectList{&sets, &clusterSets} {
		if err := r.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			logf.FromContext(ctx).Error(err, "Cannot read rule sets")
			return nil
		}
	}
	keys := map[key]bool{}
	for i := range sets.Items {
		if sets.Items[i].Status.IsCanary(node) {
			keys[keyOf(&sets.Items[i])] = true
		}
	}
	for i := range clusterSets.Items {
		if clusterSets.Items[i].Status.IsCanary(node) {
			keys[keyOf(&clusterSets.Items[i])] = true
		}
	}
	return keys
}

// saysOther are the rule sets that two reports say different things of; counts are compared for some only.
func saysOther(before, after *v1alpha1.NodeInspection, counted map[key]bool) map[key]bool {
	keys := map[key]bool{}
	was := map[key]v1alpha1.NodeRuleSet{}
	for _, n := range before.Status.RuleSets {
		k := key{n.Kind, n.Namespace, n.Name}
		if !counted[k] {
			n.Alerts, n.Drops = 0, 0
		}
		was[k] = n
	}
	for _, n := range after.Status.RuleSets {
		k := key{n.Kind, n.Namespace, n.Name}
		if !counted[k] {
			n.Alerts, n.Drops = 0, 0
		}
		if old, ok := was[k]; !ok || !equality.Semantic.DeepEqual(old, n) {
			keys[k] = true
		}
		delete(was, k)
	}
	for k := range was {
		keys[k] = true
	}
	return keys
}
