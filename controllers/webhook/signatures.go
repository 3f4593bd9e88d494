package webhook

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
)

// kindValidator judges objects of a kind before they are stored. As Validator does with policies, it judges what is stored already only
// when its spec changes.
type kindValidator[T client.Object] struct {
	kind     string
	faults   func(T) field.ErrorList
	warnings func(context.Context, T) ([]string, error)
	sameSpec func(a, b T) bool
}

// ValidateCreate refuses an object with faults; the error holds all of them.
func (v *kindValidator[T]) ValidateCreate(ctx context.Context, object T) (admission.Warnings, error) {
	if errs := v.faults(object); len(errs) > 0 {
		return nil, refusal(v.kind, object.GetName(), faultsOf(errs))
	}
	if v.warnings == nil {
		return nil, nil
	}
	reading, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	warnings, err := v.warnings(reading, object)
	if err != nil {
		logf.FromContext(ctx).Error(err, "Cannot read what exists; the object was judged by itself", "kind", v.kind)
		return admission.Warnings{fmt.Sprintf("what the %s refers to was not checked, since it could not be read just now (%v); see its status", v.kind, err)}, nil
	}
	for i := range warnings {
		warnings[i] = object.GetName() + ": " + warnings[i]
	}
	return warnings, nil
}

// ValidateUpdate is as ValidateCreate when the spec changes.
func (v *kindValidator[T]) ValidateUpdate(ctx context.Context, stored, object T) (admission.Warnings, error) {
	if object.GetDeletionTimestamp() != nil || v.sameSpec(stored, object) {
		return nil, nil
	}
	return v.ValidateCreate(ctx, object)
}

// ValidateDelete refuses nothing.
func (v *kindValidator[T]) ValidateDelete(context.Context, T) (admission.Warnings, error) {
	return nil, nil
}

// setupSignatures adds the webhooks of RuleSets, ClusterRuleSets and TrafficInspections.
func setupSignatures(mgr ctrl.Manager) error {
	err := ctrl.NewWebhookManagedBy(mgr, &v1alpha1.RuleSet{}).WithValidator(&kindValidator[*v1alpha1.RuleSet]{
		kind:     "RuleSet",
		faults:   func(r *v1alpha1.RuleSet) field.ErrorList { return manifests.ValidateRuleSet(&r.Spec) },
		sameSpec: func(a, b *v1alpha1.RuleSet) bool { return equality.Semantic.DeepEqual(a.Spec, b.Spec) },
	}).Complete()
	if err != nil {
		return fmt.Errorf("cannot set up the webhook of RuleSets: %w", err)
	}
	err = ctrl.NewWebhookManagedBy(mgr, &v1alpha1.ClusterRuleSet{}).WithValidator(&kindValidator[*v1alpha1.ClusterRuleSet]{
		kind:     "ClusterRuleSet",
		faults:   func(r *v1alpha1.ClusterRuleSet) field.ErrorList { return manifests.ValidateRuleSet(&r.Spec) },
		sameSpec: func(a, b *v1alpha1.ClusterRuleSet) bool { return equality.Semantic.DeepEqual(a.Spec, b.Spec) },
	}).Complete()
	if err != nil {
		return fmt.Errorf("cannot set up the webhook of ClusterRuleSets: %w", err)
	}
	reader := mgr.GetCache()
	err = ctrl.NewWebhookManagedBy(mgr, &v1alpha1.TrafficInspection{}).WithValidator(&kindValidator[*v1alpha1.TrafficInspection]{
		kind:   "TrafficInspection",
		faults: manifests.ValidateTrafficInspection,
		warnings: func(ctx context.Context, i *v1alpha1.TrafficInspection) ([]string, error) {
			return inspectionWarnings(ctx, reader, i)
		},
		sameSpec: func(a, b *v1alpha1.TrafficInspection) bool { return equality.Semantic.DeepEqual(a.Spec, b.Spec) },
	}).Complete()
	if err != nil {
		return fmt.Errorf("cannot set up the webhook of TrafficInspections: %w", err)
	}
	return nil
}

// inspectionWarnings are what may come right when the rest of the objects is applied.
func inspectionWarnings(ctx context.Context, reader client.Reader, inspection *v1alpha1.TrafficInspection) ([]string, error) {
	var warnings []string
	for i := range inspection.Spec.RuleSets {
		r := &inspection.Spec.RuleSets[i]
		var object client.Object = &v1alpha1.RuleSet{}
		key, what := client.ObjectKey{Namespace: inspection.Namespace, Name: r.Name}, "RuleSet "+inspection.Namespace+"/"+r.Name
		if r.KindOf() == "ClusterRuleSet" {
			object, key, what = &v1alpha1.ClusterRuleSet{}, client.ObjectKey{Name: r.Name}, "ClusterRuleSet "+r.Name
		}
		switch err := reader.Get(ctx, key, object, client.UnsafeDisableDeepCopy); {
		case apierrors.IsNotFound(err):
			warnings = append(warnings, fmt.Sprintf("spec.ruleSets[%d] names the %s, which does not exist: nothing is inspected with it until it does", i, what))
		case err != nil:
			return nil, err
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(&inspection.Spec.PodSelector)
	if err != nil {
		return nil, err
	}
	var pods corev1.PodList
	if err := reader.List(ctx, &pods, client.InNamespace(inspection.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	for i := range pods.Items {
		if selector.Matches(labels.Set(pods.Items[i].Labels)) {
			return warnings, nil
		}
	}
	return append(warnings, "spec.podSelector selects no Pod at present: nothing is inspected until it does"), nil
}
