package webhook

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// readTimeout bounds how long an answer waits for what exists to be read; the API server waits for five seconds in all.
const readTimeout = 2 * time.Second

// Validator judges L7Policies before they are stored.
type Validator struct {
	// Reader reads what exists: a manager's cache.
	Reader client.Reader
}

var _ admission.Validator[*v1alpha1.L7Policy] = &Validator{}

// ValidateCreate refuses a policy with faults; the error holds all of them.
func (v *Validator) ValidateCreate(ctx context.Context, policy *v1alpha1.L7Policy) (admission.Warnings, error) {
	return v.validate(ctx, policy)
}

// ValidateUpdate is as ValidateCreate when the spec changes. What leaves the spec as it is passes, whatever the spec says, so
// that a policy that later rules refuse can still be labelled, owned and deleted.
func (v *Validator) ValidateUpdate(ctx context.Context, stored, policy *v1alpha1.L7Policy) (admission.Warnings, error) {
	if policy.DeletionTimestamp != nil || equality.Semantic.DeepEqual(stored.Spec, policy.Spec) {
		return nil, nil
	}
	return v.validate(ctx, policy)
}

// ValidateDelete refuses nothing.
func (v *Validator) ValidateDelete(context.Context, *v1alpha1.L7Policy) (admission.Warnings, error) {
	return nil, nil
}

func (v *Validator) validate(ctx context.Context, policy *v1alpha1.L7Policy) (admission.Warnings, error) {
	if errs := Faults(policy); len(errs) > 0 {
		return nil, refusal("L7Policy", policy.Name, faultsOf(errs))
	}
	reading, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	snapshot, err := v.snapshot(reading, policy)
	if err != nil {
		logf.FromContext(ctx).Error(err, "Cannot read what exists; the policy was judged by itself")
		return admission.Warnings{fmt.Sprintf("what the policy refers to was not checked, since it could not be read just now (%v); see the policy's status", err)}, nil
	}
	errs, warnings := FaultsAmong(snapshot, policy)
	if len(errs) > 0 {
		return nil, refusal("L7Policy", policy.Name, faultsOf(errs))
	}
	for i := range warnings {
		warnings[i] = policy.Name + ": " + warnings[i] // of several objects in one file, nothing else tells which is meant
	}
	return warnings, nil
}
