package flowexport

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/fleet"
	"github.com/meerkat-dev/meerkat/dataplane/flowexport/protocols"
)

const (
	fieldManager = "meerkat-manager"
	// lookAgain is how often an export is looked at when nothing happens: agents fall silent without an event.
	lookAgain = time.Minute
)

// Reconcile implements reconcile.Reconciler.
func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	o := &v1alpha1.FlowExport{}
	err := r.client.Get(ctx, request.NamespacedName, o)
	if apierrors.IsNotFound(err) {
		r.forget(request.Name)
		return reconcile.Result{}, nil
	}
	if err != nil || o.DeletionTimestamp != nil {
		return reconcile.Result{}, err
	}
	k, err := r.look(ctx, o)
	if err != nil {
		return reconcile.Result{}, err
	}
	status := aggregate(k)
	wait := r.decide(o.Name, &o.Status, &status)
	if wait == 0 {
		err := r.write(ctx, o, &status)
		if apierrors.IsConflict(err) { // the cache is behind what was written last
			return reconcile.Result{RequeueAfter: r.Settle}, nil
		}
		if err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
	}
	if wait <= 0 || wait > lookAgain {
		wait = lookAgain
	}
	return reconcile.Result{RequeueAfter: wait}, nil
}

// look finds out all that is known of an export.
func (r *reconciler) look(ctx context.Context, o *v1alpha1.FlowExport) (*known, error) {
	k := &known{
		generation: o.Generation, before: &o.Status, now: r.Now(), faults: protocols.Faults(&o.Spec),
		unknown: protocols.Unknowns(&o.Spec), untracked: protocols.Untracked(&o.Spec),
		wanted: protocols.Resolve("spec.protocols", o.Spec.Protocols, o.Spec.Groups),
	}
	engine := &v1alpha1.Engine{}
	err := r.client.Get(ctx, client.ObjectKey{Name: v1alpha1.EngineName}, engine, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading the Engine: %w", err)
	}
	if k.engine = err == nil && engine.DeletionTimestamp == nil; !k.engine {
		return k, nil
	}
	var nodes corev1.NodeList
	if err := r.client.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("reading the Nodes: %w", err)
	}
	covers := labels.SelectorFromSet(engine.Spec.NodeSelector)
	for i := range nodes.Items {
		node := &nodes.Items[i]
		if cmp.Or(node.Labels[corev1.LabelOSStable], "linux") != "linux" || !covers.Matches(labels.Set(node.Labels)) {
			continue
		}
		v, err := r.view(ctx, o, node)
		if err != nil {
			return nil, err
		}
		k.nodes = append(k.nodes, v)
	}
	slices.SortFunc(k.nodes, func(a, b view) int { return strings.Compare(a.name, b.name) })
	return k, nil
}

// view looks at a node.
func (r *reconciler) view(ctx context.Context, o *v1alpha1.FlowExport, node *corev1.Node) (view, error) {
	v := view{name: node.Name, down: fleet.Down(node)}
	report := &v1alpha1.NodeInspection{}
	err := r.client.Get(ctx, client.ObjectKey{Name: node.Name}, report, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		return v, nil // it is waited for
	}
	if err != nil {
		return v, fmt.Errorf("reading the NodeInspection %s: %w", node.Name, err)
	}
	v.silent = !fleet.Reports(report, r.Now())
	for i := range report.Status.FlowExports {
		if about := &report.Status.FlowExports[i]; about.Name == o.Name {
			v.report = about
		}
	}
	return v, nil
}

// decide says how long a status is to wait before it is written: 0 when it is to be written now, and less than 0 when there is nothing
// to write.
func (r *reconciler) decide(name string, have, want *v1alpha1.FlowExportStatus) time.Duration {
	switch {
	case turns(have, want):
		return 0
	case equality.Semantic.DeepEqual(have, want):
		return -1
	}
	// Nothing but numbers and texts: how far nodes have come.
	if left := r.writtenAt(name).Add(r.ProgressInterval).Sub(r.Now()); left > 0 {
		return left
	}
	return 0
}

// turns says whether a condition has another status or reason, comes or goes, or is about another generation.
func turns(a, b *v1alpha1.FlowExportStatus) bool {
	return a.ObservedGeneration != b.ObservedGeneration || !slices.EqualFunc(a.Conditions, b.Conditions, func(x, y metav1.Condition) bool {
		return x.Type == y.Type && x.Status == y.Status && x.Reason == y.Reason && x.ObservedGeneration == y.ObservedGeneration
	})
}

// write writes a status, and tells of what has turned.
func (r *reconciler) write(ctx context.Context, o *v1alpha1.FlowExport, status *v1alpha1.FlowExportStatus) error {
	before := o.DeepCopy()
	o.Status = *status
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.client.Status().Patch(ctx, o, patch, client.FieldOwner(fieldManager)); err != nil {
		return err
	}
	r.wrote(o.Name)
	for _, e := range newsOf(before.Status.Conditions, status.Conditions) {
		r.events.Eventf(o, nil, e.kind, e.reason, e.action, "%s", fleet.Cut(e.note, maxNote))
	}
	return nil
}
