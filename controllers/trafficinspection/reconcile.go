package trafficinspection

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
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
)

const (
	fieldManager = "meerkat-manager"
	// lookAgain is how often an inspection is looked at when nothing happens: agents fall silent without an event.
	lookAgain = time.Minute
)

// Reconcile implements reconcile.Reconciler.
func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	o := &v1alpha1.TrafficInspection{}
	err := r.client.Get(ctx, request.NamespacedName, o)
	if apierrors.IsNotFound(err) {
		r.forget(request.NamespacedName)
		return reconcile.Result{}, nil
	}
	if err != nil || o.DeletionTimestamp != nil {
		return reconcile.Result{}, err
	}
	k, err := r.look(ctx, o)
	if err != nil {
		return reconcile.Result{}, err
	}
	record := r.recordOf(request.NamespacedName)
	if record.tally == nil || record.tally.uid != o.UID {
		record.tally = newTally(o.UID, o.Status.Alerts, k.nodes)
	} else {
		record.tally.take(k.nodes)
	}
	status := aggregate(k)
	status.Alerts = record.tally.totals.DeepCopy()
	if status.Alerts.Total == 0 && o.Status.Alerts == nil {
		status.Alerts = nil
	}
	status.LastSignatures = signatures(o.Status.LastSignatures, k.nodes)
	wait := record.decide(&o.Status, &status, r.Options)
	if wait == 0 {
		err := r.write(ctx, o, &status, record)
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

// look finds out all that is known of an inspection.
func (r *reconciler) look(ctx context.Context, o *v1alpha1.TrafficInspection) (*known, error) {
	k := &known{generation: o.Generation, before: &o.Status, now: r.Now()}
	for _, err := range manifests.ValidateTrafficInspection(o) {
		fault := manifests.FaultOf(err)
		k.faults = append(k.faults, strings.TrimRight(fault.Path+": "+fault.Why, ". "))
	}
	for i := range o.Spec.RuleSets {
		reference := &o.Spec.RuleSets[i]
		var set client.Object = &v1alpha1.RuleSet{}
		at, what := client.ObjectKey{Namespace: o.Namespace, Name: reference.Name}, "RuleSet "+o.Namespace+"/"+reference.Name
		if reference.KindOf() == "ClusterRuleSet" {
			set, at, what = &v1alpha1.ClusterRuleSet{}, client.ObjectKey{Name: reference.Name}, "ClusterRuleSet "+reference.Name
		}
		switch err := r.client.Get(ctx, at, set, client.UnsafeDisableDeepCopy); {
		case apierrors.IsNotFound(err):
			k.missing = append(k.missing, what)
		case err != nil:
			return nil, fmt.Errorf("reading the %s: %w", what, err)
		}
	}
	engine := &v1alpha1.Engine{}
	err := r.client.Get(ctx, client.ObjectKey{Name: v1alpha1.EngineName}, engine, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading the Engine: %w", err)
	}
	k.engine = err == nil && engine.DeletionTimestamp == nil
	desired, err := fleet.NodesOf(ctx, r.client, o)
	if err != nil {
		return nil, err
	}
	covers := labels.SelectorFromSet(engine.Spec.NodeSelector)
	for _, name := range desired {
		v, err := r.view(ctx, o, name, covers)
		if err != nil {
			return nil, err
		}
		k.nodes = append(k.nodes, v)
	}
	return k, nil
}

// view looks at a node.
func (r *reconciler) view(ctx context.Context, o *v1alpha1.TrafficInspection, name string, covers labels.Selector) (view, error) {
	v := view{name: name, down: true}
	node, report := &corev1.Node{}, &v1alpha1.NodeInspection{}
	switch err := r.client.Get(ctx, client.ObjectKey{Name: name}, node, client.UnsafeDisableDeepCopy); {
	case client.IgnoreNotFound(err) != nil:
		return v, fmt.Errorf("reading the Node %s: %w", name, err)
	case err == nil:
		os := cmp.Or(node.Labels[corev1.LabelOSStable], "linux")
		v.down, v.covered = fleet.Down(node), os == "linux" && covers.Matches(labels.Set(node.Labels))
	}
	err := r.client.Get(ctx, client.ObjectKey{Name: name}, report, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		return v, nil // it is waited for
	}
	if err != nil {
		return v, fmt.Errorf("reading the NodeInspection %s: %w", name, err)
	}
	v.silent = !fleet.Reports(report, r.Now())
	for i := range report.Status.Inspections {
		if about := &report.Status.Inspections[i]; about.Namespace == o.Namespace && about.Name == o.Name {
			v.report = about
		}
	}
	return v, nil
}

// decide says how long a status is to wait before it is written: 0 when it is to be written now, and less than 0 when there is nothing
// to write. It may take back new counts.
func (rec *record) decide(have, want *v1alpha1.TrafficInspectionStatus, o Options) time.Duration {
	now := o.Now()
	later := time.Duration(-1)
	if !sameCounts(have, want) {
		if left := rec.counted.Add(o.CountInterval).Sub(now); left > 0 {
			want.Alerts, want.LastSignatures = have.Alerts, have.LastSignatures
			later = left
		}
	}
	switch {
	case turns(have, want), !sameCounts(have, want):
		return 0
	case equality.Semantic.DeepEqual(have.Nodes, want.Nodes) && equality.Semantic.DeepEqual(have.Conditions, want.Conditions):
		return later
	}
	// Nothing but numbers and texts: how far nodes have come.
	if left := rec.written.Add(o.ProgressInterval).Sub(now); left > 0 {
		return left
	}
	return 0
}

func sameCounts(a, b *v1alpha1.TrafficInspectionStatus) bool {
	return equality.Semantic.DeepEqual(a.Alerts, b.Alerts) && equality.Semantic.DeepEqual(a.LastSignatures, b.LastSignatures)
}

// turns says whether a condition has another status or reason, comes or goes, or is about another generation.
func turns(a, b *v1alpha1.TrafficInspectionStatus) bool {
	return a.ObservedGeneration != b.ObservedGeneration || !slices.EqualFunc(a.Conditions, b.Conditions, func(x, y metav1.Condition) bool {
		return x.Type == y.Type && x.Status == y.Status && x.Reason == y.Reason && x.ObservedGeneration == y.ObservedGeneration
	})
}

// write writes a status, and tells of what has turned.
func (r *reconciler) write(ctx context.Context, o *v1alpha1.TrafficInspection, status *v1alpha1.TrafficInspectionStatus, rec *record) error {
	before := o.DeepCopy()
	o.Status = *status
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.client.Status().Patch(ctx, o, patch, client.FieldOwner(fieldManager)); err != nil {
		return err
	}
	rec.written = r.Now()
	if !sameCounts(&before.Status, status) {
		rec.counted = rec.written
	}
	for _, e := range newsOf(before.Status.Conditions, status.Conditions) {
		r.events.Eventf(o, nil, e.kind, e.reason, e.action, "%s", fleet.Cut(e.note, maxNote))
	}
	return nil
}
