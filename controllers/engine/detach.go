package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/engine/render"
)

const (
	defaultDetachTimeout = 5 * time.Minute

	// pollPods is how often it is looked whether Pods are gone. They are not watched one by one.
	pollPods = time.Second
)

// detach takes everything of an Engine that is being deleted from the nodes, in this order: the agents put Pods back, and say so;
// then what runs on nodes goes; then what was told of it. Each step can be done again, after a restart of the manager too.
func (r *reconciler) detach(ctx context.Context, engine *v1alpha1.Engine) (reconcile.Result, error) {
	if !controllerutil.ContainsFinalizer(engine, Finalizer) {
		return reconcile.Result{}, nil
	}
	left, running, err := r.attached(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	remaining := engine.DeletionTimestamp.Add(detachTimeout(engine)).Sub(r.Now())
	if len(running) > 0 && remaining > 0 {
		message := fmt.Sprintf("Waiting for %s to put Pods' networks back: %s.", nodes(int32(len(running))), names(running)) //nolint:gosec // Few.
		return reconcile.Result{RequeueAfter: min(remaining, pollPods)}, r.writeStatus(ctx, engine, detaching(engine, message, running))
	}
	gone, err := r.removeDaemonSets(ctx, engine, left)
	if err != nil || !gone {
		return reconcile.Result{RequeueAfter: pollPods}, errors.Join(err,
			r.writeStatus(ctx, engine, detaching(engine, "Waiting for the Pods on nodes to end.", left)))
	}
	// With the agents gone, nobody writes these any more.
	for _, kind := range []client.Object{&v1alpha1.NodeInspection{}, &v1alpha1.AddressSlice{}} {
		if err := r.client.DeleteAllOf(ctx, kind); err != nil {
			return reconcile.Result{}, fmt.Errorf("what was told of nodes cannot be deleted: %w", err)
		}
	}
	ctrl.LoggerFrom(ctx).Info("Every node is put back as far as it was reached", "leftBehind", left)
	return reconcile.Result{}, r.letGo(ctx, engine)
}

func detachTimeout(engine *v1alpha1.Engine) time.Duration {
	if engine.Spec.DetachTimeout == nil {
		return defaultDetachTimeout
	}
	return engine.Spec.DetachTimeout.Duration
}

// attached gives the nodes whose Pods have not been put back as far as is known, sorted: all of them, and those that have an agent
// which may still do it.
func (r *reconciler) attached(ctx context.Context) (all, running []string, err error) {
	reports, err := r.reports(ctx)
	if err != nil {
		return nil, nil, err
	}
	for name, report := range reports {
		if !isDetached(report) {
			all = append(all, name)
		}
	}
	// Past the cache: its Pods have no status, and a Pod that it does not have yet would be forgotten.
	var pods corev1.PodList
	if err := r.live.List(ctx, &pods, agentPods(r.Namespace)); err != nil {
		return nil, nil, err
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		name := pod.Spec.NodeName
		report, reported := reports[name]
		if name == "" || reported && isDetached(report) || !reported && !agentStarted(pod) {
			continue
		}
		running = append(running, name)
		if !reported {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	slices.Sort(running)
	return slices.Compact(all), slices.Compact(running), nil
}

// agentStarted tells whether the agent of a Pod may ever have touched its node: one whose image cannot be pulled has not.
func agentStarted(pod *corev1.Pod) bool {
	for _, c := range pod.Status.ContainerStatuses {
		if c.Name == "agent" {
			return c.State.Running != nil || c.State.Terminated != nil || c.LastTerminationState.Terminated != nil || c.RestartCount > 0
		}
	}
	return false
}

// removeDaemonSets deletes both, and tells whether they and their Pods are gone. Who is left behind is told once, before.
func (r *reconciler) removeDaemonSets(ctx context.Context, engine *v1alpha1.Engine, left []string) (bool, error) {
	var sets appsv1.DaemonSetList
	if err := r.live.List(ctx, &sets, client.InNamespace(r.Namespace), client.MatchingLabels{render.LabelName: render.Name}); err != nil {
		return false, err
	}
	there := false
	for i := range sets.Items {
		ds := &sets.Items[i]
		if !isOurs(r.Namespace)(ds) {
			continue
		}
		there = true
		if !ds.DeletionTimestamp.IsZero() {
			continue
		}
		if ds.Name == render.NodeDaemonSet {
			r.tellLeftBehind(engine, left)
		}
		err := r.client.Delete(ctx, ds, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("DaemonSet %s cannot be deleted: %w", ds.Name, err)
		}
		delete(r.applied, ds.Name)
	}
	if there {
		return false, nil
	}
	return r.podsGone(ctx, engine)
}

// podsGone tells whether the Pods of both DaemonSets have ended, or the time for it is over: a node that does not answer keeps its
// Pods in the API for as long as it is away.
func (r *reconciler) podsGone(ctx context.Context, engine *v1alpha1.Engine) (bool, error) {
	if r.Now().After(engine.DeletionTimestamp.Add(detachTimeout(engine) + time.Minute)) {
		return true, nil
	}
	for _, component := range []string{render.ComponentNode, render.ComponentSwitch} {
		var pods corev1.PodList
		if err := r.live.List(ctx, &pods, podsOf(r.Namespace, component), client.Limit(1)); err != nil {
			return false, err
		}
		if len(pods.Items) > 0 {
			return false, nil
		}
	}
	return true, nil
}

func (r *reconciler) tellLeftBehind(engine *v1alpha1.Engine, left []string) {
	if len(left) == 0 {
		r.tell(engine, corev1.EventTypeNormal, "Detached", "Detach", "All nodes have put their Pods' networks back.")
		return
	}
	r.tell(engine, corev1.EventTypeWarning, "NodesLeftBehind", "Detach", fmt.Sprintf(
		"Left as they are, since nobody there says that Pods' networks are put back: %s (%s). Restart each of these nodes, or recreate its Pods.",
		names(left), nodes(int32(len(left))))) //nolint:gosec // Few.
}

// detaching is the status of an Engine that is being deleted.
func detaching(engine *v1alpha1.Engine, message string, left []string) v1alpha1.EngineStatus {
	status := *engine.Status.DeepCopy()
	status.ObservedGeneration = engine.Generation
	if status.Nodes != nil {
		status.Nodes.Failing = slices.Clone(left[:min(len(left), maxFailing)])
	}
	for _, c := range []metav1.Condition{
		{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reasonDetaching, Message: "The Engine is being deleted."},
		{Type: v1alpha1.ConditionProgressing, Status: metav1.ConditionTrue, Reason: reasonDetaching, Message: message},
	} {
		c.ObservedGeneration = engine.Generation
		meta.SetStatusCondition(&status.Conditions, c)
	}
	return status
}
