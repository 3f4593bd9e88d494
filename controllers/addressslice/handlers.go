package addressslice

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

type (
	queue    = workqueue.TypedRateLimitingInterface[string]
	handlers = handler.TypedFuncs[client.Object, string]
)

// enqueue has selectors written in a moment.
func (r *reconciler) enqueue(q queue, keys []string) {
	for _, key := range keys {
		q.AddAfter(key, r.board.delay(key, r.options, r.now()))
	}
}

// handle makes handlers of what takes in an object that is new or has changed, and what takes in one that was deleted.
func handle[T client.Object](r *reconciler, set, remove func(T) []string) handlers {
	return handlers{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { r.enqueue(q, set(e.Object.(T))) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { r.enqueue(q, set(e.ObjectNew.(T))) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { r.enqueue(q, remove(e.Object.(T))) },
	}
}

func (r *reconciler) onPods() handlers {
	return handle(r,
		func(p *corev1.Pod) []string { return r.board.setPod(p, r.now()) },
		func(p *corev1.Pod) []string { return r.board.removePod(client.ObjectKeyFromObject(p), r.now()) })
}

func (r *reconciler) onNamespaces() handlers {
	return handle(r,
		func(n *corev1.Namespace) []string { return r.board.setNamespace(n.Name, n.Labels, r.now()) },
		func(n *corev1.Namespace) []string { r.board.removeNamespace(n.Name); return nil })
}

func (r *reconciler) onPolicies() handlers {
	return handle(r,
		func(p *v1alpha1.L7Policy) []string { return r.board.setPolicy(p, r.now()) },
		func(p *v1alpha1.L7Policy) []string {
			return r.board.removeUser(user{name: types.NamespacedName{Namespace: p.Namespace, Name: p.Name}}, r.now())
		})
}

func (r *reconciler) onInspections() handlers {
	return handle(r,
		func(o *v1alpha1.TrafficInspection) []string { return r.board.setInspection(o, r.now()) },
		func(o *v1alpha1.TrafficInspection) []string {
			return r.board.removeUser(user{true, types.NamespacedName{Namespace: o.Namespace, Name: o.Name}}, r.now())
		})
}

func (r *reconciler) onEngines() handlers {
	return handle(r,
		func(e *v1alpha1.Engine) []string {
			switch {
			case e.Name != v1alpha1.EngineName:
				return nil
			case e.DeletionTimestamp != nil:
				return r.board.setEngine(engineLeaving)
			}
			return r.board.setEngine(enginePresent)
		},
		func(e *v1alpha1.Engine) []string {
			if e.Name != v1alpha1.EngineName {
				return nil
			}
			return r.board.setEngine(engineAbsent)
		})
}

func (r *reconciler) onSlices() handlers {
	h := handle(r,
		func(s *v1alpha1.AddressSlice) []string { return r.board.seen(s, r.now()) },
		func(*v1alpha1.AddressSlice) []string { return nil })
	h.DeleteFunc = func(_ context.Context, e event.DeleteEvent, q queue) {
		r.enqueue(q, r.board.gone(e.Object.(*v1alpha1.AddressSlice), e.DeleteStateUnknown, r.now()))
	}
	return h
}
