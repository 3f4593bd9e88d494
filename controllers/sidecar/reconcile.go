package sidecar

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/revision"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

const (
	fieldManager = "meerkat-manager"
	// annotationContent is the annotation of a ConfigMap with the Content of its rules.
	annotationContent = "inspection.meerkat.dev/content"
	// ReasonRulesNotWritten is an event's: the sidecars cannot be given the rules.
	ReasonRulesNotWritten = "SidecarRulesNotWritten"
)

// Reconcile implements reconcile.Reconciler.
func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	o := &v1alpha1.TrafficInspection{}
	if err := r.client.Get(ctx, request.NamespacedName, o); err != nil || o.DeletionTimestamp != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err) // the ConfigMaps go with it
	}
	have, err := r.written(ctx, o)
	if err != nil {
		return reconcile.Result{}, err
	}
	if o.Spec.Placement != v1alpha1.PlacementSidecar {
		if have == nil {
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, r.remove(ctx, o, 0)
	}
	sets, ready, err := r.ruleSets(ctx, o)
	if err != nil || !ready {
		return reconcile.Result{}, err // a rule set that gets a revision brings the next call; until then, what is there stays
	}
	again := reconcile.Result{RequeueAfter: lookAgain}
	if content := sidecar.Content(sets, o.Spec.Variables); have != nil && have.Annotations[annotationContent] == content && metav1.IsControlledBy(have, o) {
		return again, nil
	}
	parts, err := r.pack(ctx, o, sets)
	if fault := (*faultError)(nil); errors.As(err, &fault) {
		logf.FromContext(ctx).Error(err, "Sidecars keep the rules that they have")
		r.events.Eventf(o, nil, corev1.EventTypeWarning, ReasonRulesNotWritten, "WriteRules", "Sidecars keep the rules that they have: %s", err)
		return again, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	if err := r.write(ctx, o, sidecar.Content(sets, o.Spec.Variables), parts); err != nil {
		return reconcile.Result{}, err
	}
	logf.FromContext(ctx).Info("Wrote the rules of sidecars", "ruleSets", sets, "parts", len(parts))
	return again, r.remove(ctx, o, len(parts))
}

// written is the first ConfigMap of an inspection, without its rules; nil when there is none.
func (r *reconciler) written(ctx context.Context, o *v1alpha1.TrafficInspection) (*metav1.PartialObjectMetadata, error) {
	have := &metav1.PartialObjectMetadata{}
	have.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	err := r.live.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: sidecar.ConfigMapName(o.Name, 0)}, have)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return have, err
}

// ruleSets gives the revisions that nodes are to run; not ready while one of them has none.
func (r *reconciler) ruleSets(ctx context.Context, o *v1alpha1.TrafficInspection) (sets []sidecar.RuleSet, ready bool, err error) {
	for i := range o.Spec.RuleSets {
		ref := &o.Spec.RuleSets[i]
		var status *v1alpha1.RuleSetStatus
		s := sidecar.RuleSet{Name: sidecar.RuleSetName(o.Namespace, ref)}
		if ref.KindOf() == "ClusterRuleSet" {
			object := &v1alpha1.ClusterRuleSet{}
			err, status = r.client.Get(ctx, client.ObjectKey{Name: ref.Name}, object, client.UnsafeDisableDeepCopy), &object.Status
		} else {
			object := &v1alpha1.RuleSet{}
			err, status = r.client.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: ref.Name}, object, client.UnsafeDisableDeepCopy), &object.Status
		}
		if apierrors.IsNotFound(err) || err == nil && status.Revision == "" {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("reading the rule set %s: %w", s.Name, err)
		}
		s.Revision = status.Revision
		sets = append(sets, s)
	}
	return sets, true, nil
}

// faultError is what only other rules mend.
type faultError struct{ error }

// pack merges the rule sets, as for an engine on a node, and puts them into parts.
func (r *reconciler) pack(ctx context.Context, o *v1alpha1.TrafficInspection, sets []sidecar.RuleSet) ([]map[string][]byte, error) {
	m := sidecar.Manifest{
		Content: sidecar.Content(sets, o.Spec.Variables), RuleSets: sets, Lines: make([]int, len(sets)), Inspection: o.Spec.Variables,
		Variables: v1alpha1.RuleVariables{Addresses: map[string]v1alpha1.RuleValues{}, Ports: map[string]v1alpha1.RuleValues{}},
	}
	var files []signatures.File
	at := map[string]int{}
	for i, s := range sets {
		got, err := revision.Read(s.Revision, func(name string) (*v1alpha1.RuleSetRevision, error) {
			part := &v1alpha1.RuleSetRevision{}
			return part, r.live.Get(ctx, client.ObjectKey{Name: name}, part)
		})
		if err != nil {
			return nil, fmt.Errorf("the rule set %s: %w", s.Name, err)
		}
		files = append(files, signatures.File{Source: s.Name, Name: s.Name, Text: got.Rules})
		maps.Copy(m.Variables.Addresses, got.Variables.Addresses)
		maps.Copy(m.Variables.Ports, got.Variables.Ports)
		at[s.Name] = i
	}
	merged, faults := signatures.Build(files, signatures.Options{})
	if len(faults) > 0 {
		return nil, &faultError{faults.ToAggregate()}
	}
	if len(merged.Refused) > 0 {
		f := merged.Refused[0]
		return nil, &faultError{fmt.Errorf("%d rules are refused, the first in %s line %d (sid %d): %s", merged.Counts.Refused, f.Source, f.Line, f.SID, f.Reason)}
	}
	for i := range merged.Lines {
		m.Lines[at[merged.Lines[i].Source]]++
	}
	parts, err := sidecar.Pack(m, merged.Rules)
	if errors.Is(err, sidecar.ErrTooLarge) {
		return nil, &faultError{err}
	}
	return parts, err
}

// write writes the parts, the first last: it says what all of them are.
func (r *reconciler) write(ctx context.Context, o *v1alpha1.TrafficInspection, content string, parts []map[string][]byte) error {
	owner := metav1ac.OwnerReference().WithAPIVersion(v1alpha1.GroupVersion.String()).WithKind("TrafficInspection").
		WithName(o.Name).WithUID(o.UID).WithController(true)
	for i, files := range slices.Backward(parts) {
		name := sidecar.ConfigMapName(o.Name, i)
		object := corev1ac.ConfigMap(name, o.Namespace).WithBinaryData(files).WithOwnerReferences(owner).
			WithAnnotations(map[string]string{annotationContent: content}).
			WithLabels(map[string]string{"app.kubernetes.io/managed-by": fieldManager, "app.kubernetes.io/component": "sidecar"})
		if err := r.client.Apply(ctx, object, client.FieldOwner(fieldManager), client.ForceOwnership); err != nil {
			return fmt.Errorf("writing the ConfigMap %s/%s: %w", o.Namespace, name, err)
		}
	}
	return nil
}

// remove deletes the ConfigMaps of parts that there are no more, from one on.
func (r *reconciler) remove(ctx context.Context, o *v1alpha1.TrafficInspection, from int) error {
	for i := from; i < sidecar.Parts; i++ {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: sidecar.ConfigMapName(o.Name, i)}}
		if err := client.IgnoreNotFound(r.client.Delete(ctx, object)); err != nil {
			return fmt.Errorf("deleting the ConfigMap %s/%s: %w", o.Namespace, object.Name, err)
		}
	}
	return nil
}
