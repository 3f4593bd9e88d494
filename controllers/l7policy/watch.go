package l7policy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// watch has the state told of every change that matters. It returns when the state has been told of all that there is.
func (r *runner) watch(ctx context.Context, informers cache.Informers) error {
	var synced []toolscache.InformerSynced
	for _, w := range []struct {
		object  client.Object
		handler toolscache.ResourceEventHandler
	}{
		{&corev1.Pod{}, structural(r.state, samePod)},
		{&corev1.Node{}, structural(r.state, sameNode)},
		{&corev1.Namespace{}, structural(r.state, sameNamespace)},
		{&corev1.Service{}, structural(r.state, sameService)},
		{&discoveryv1.EndpointSlice{}, structural(r.state, sameEndpoints)},
		{&v1alpha1.Engine{}, structural(r.state, sameEngine)},
		{&v1alpha1.L7Policy{}, r.onPolicies()},
		{&v1alpha1.NodeInspection{}, r.onReports()},
	} {
		informer, err := informers.GetInformer(ctx, w.object)
		if err != nil {
			return fmt.Errorf("watching %T: %w", w.object, err)
		}
		registration, err := informer.AddEventHandler(w.handler)
		if err != nil {
			return fmt.Errorf("watching %T: %w", w.object, err)
		}
		synced = append(synced, registration.HasSynced)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return errors.New("the objects that statuses are made of could not all be read")
	}
	return nil
}

// structural makes a handler for objects that all policies are judged by. Changes that do not matter are passed over.
func structural[T client.Object](s *state, same func(a, b T) bool) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { s.setStructural() },
		UpdateFunc: func(before, now any) {
			a, okA := before.(T)
			b, okB := now.(T)
			if !okA || !okB || !same(a, b) {
				s.setStructural()
			}
		},
		DeleteFunc: func(any) { s.setStructural() },
	}
}

func samePod(a, b *corev1.Pod) bool {
	return a.UID == b.UID && equality.Semantic.DeepEqual(a.Labels, b.Labels) &&
		equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Status, b.Status)
}

func sameNode(a, b *corev1.Node) bool {
	return equality.Semantic.DeepEqual(a.Labels, b.Labels) && nodeReady(a) == nodeReady(b)
}

func sameNamespace(a, b *corev1.Namespace) bool {
	return equality.Semantic.DeepEqual(a.Labels, b.Labels)
}

func sameService(a, b *corev1.Service) bool { return equality.Semantic.DeepEqual(a.Spec, b.Spec) }

// sameEndpoints compares addresses and ports: whether an endpoint is ready does not matter here.
func sameEndpoints(a, b *discoveryv1.EndpointSlice) bool {
	return equality.Semantic.DeepEqual(a.Ports, b.Ports) && equality.Semantic.DeepEqual(a.Labels, b.Labels) &&
		slices.EqualFunc(a.Endpoints, b.Endpoints, func(x, y discoveryv1.Endpoint) bool { return slices.Equal(x.Addresses, y.Addresses) })
}

func sameEngine(a, b *v1alpha1.Engine) bool {
	return equality.Semantic.DeepEqual(a.Spec.NodeSelector, b.Spec.NodeSelector) && (a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil)
}

func nodeReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// onPolicies looks at all policies when one says something else, and at one alone when only its status differs.
func (r *runner) onPolicies() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { r.state.setStructural() },
		UpdateFunc: func(before, now any) {
			a, b := before.(*v1alpha1.L7Policy), now.(*v1alpha1.L7Policy)
			if a.UID != b.UID || a.Generation != b.Generation {
				r.state.setStructural()
				return
			}
			r.state.setDirty(types.NamespacedName{Namespace: b.Namespace, Name: b.Name})
		},
		DeleteFunc: func(any) { r.state.setStructural() },
	}
}

func (r *runner) onReports() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(o any, initial bool) {
			report, heard := o.(*v1alpha1.NodeInspection), r.now()
			if reported := report.Status.Reported; initial && reported != nil && reported.Time.Before(heard) {
				heard = reported.Time
			}
			r.state.setReport(report, heard)
		},
		UpdateFunc: func(before, now any) {
			a, b := before.(*v1alpha1.NodeInspection), now.(*v1alpha1.NodeInspection)
			if a.ResourceVersion != b.ResourceVersion {
				r.state.setReport(b, r.now())
			}
		},
		DeleteFunc: func(o any) {
			if t, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = t.Obj
			}
			if report, ok := o.(*v1alpha1.NodeInspection); ok {
				r.state.removeReport(report.Name)
			}
		},
	}
}
