package webhook

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Faults returns everything that is wrong with a policy by itself, whatever else exists: what ValidateL7Policy finds and, when
// that is nothing, what the rule compiler could not make rules of. It is pure.
func Faults(policy *v1alpha1.L7Policy) field.ErrorList {
	if errs := manifests.ValidateL7Policy(policy); len(errs) > 0 {
		return errs
	}
	return entryFaults(policy)
}

// FaultsAmong returns what is wrong with a policy that has no Faults, among what exists: rule sets that it makes too large for
// the engine together with other policies, and what only Compile finds. Rule sets that others have broken do not count. It is
// pure, and reads only policies of the snapshot that are in the policy's namespace.
func FaultsAmong(s plan.Snapshot, policy *v1alpha1.L7Policy) (errs field.ErrorList, warnings []string) {
	before := neighbours(s.L7Policies, policy)
	s.Node, s.L7Policies = "", slices.Concat(before, []v1alpha1.L7Policy{*policy})
	name := types.NamespacedName{Namespace: policy.Namespace, Name: policy.Name}

	p, findings := plan.Compile(s)
	errs = ruleSetFaults(p, name)
	own := findings.For(name)
	for _, c := range own.Conditions {
		if c.Type == v1alpha1.ConditionAccepted && c.Status == metav1.ConditionFalse {
			// Whatever Compile cannot use and the checks above let pass; the sentence names its field.
			errs = append(errs, field.Invalid(field.NewPath("spec"), field.OmitValueType{}, c.Message))
		}
	}
	if len(errs) == 0 {
		// Without Pods that the policy selects, the plan has no rule sets of it.
		if example, ok := exampleSnapshot(&s, policy); ok {
			p, _ := plan.Compile(example)
			errs = ruleSetFaults(p, name)
		}
	}
	if len(errs) > 0 {
		return errs, nil
	}
	warnings = ownWarnings(own)
	return nil, append(warnings, shadowWarnings(s, before, findings, name)...)
}

// neighbours are the other policies of the policy's namespace: no others can select the same Pods.
func neighbours(all []v1alpha1.L7Policy, policy *v1alpha1.L7Policy) []v1alpha1.L7Policy {
	var found []v1alpha1.L7Policy
	for i := range all {
		if all[i].Namespace == policy.Namespace && all[i].Name != policy.Name && all[i].DeletionTimestamp == nil {
			found = append(found, all[i])
		}
	}
	return found
}

// ownWarnings are what may be meant so, or may come right when the rest of the objects is applied.
func ownWarnings(f *plan.PolicyFindings) []string {
	var warnings []string
	if f.Pods == 0 {
		warnings = append(warnings, "spec.podSelector selects no Pod at present: the policy governs nothing until it does")
	}
	for _, c := range f.Conditions {
		switch {
		case c.Type == v1alpha1.ConditionResolvedRefs && c.Status == metav1.ConditionFalse,
			c.Type == plan.ConditionShadowed && c.Status == metav1.ConditionTrue,
			c.Type == plan.ConditionClientsHidden && c.Status == metav1.ConditionTrue:
			warnings = append(warnings, c.Message)
		}
	}
	return warnings
}

// shadowWarnings tell of rules of other policies that the policy makes pointless.
func shadowWarnings(s plan.Snapshot, before []v1alpha1.L7Policy, after plan.Findings, name types.NamespacedName) []string {
	shadowed := shadows(after, name)
	if len(shadowed) == 0 {
		return nil
	}
	s.L7Policies = before
	_, findings := plan.Compile(s)
	already := shadows(findings, name)
	var warnings []string
	for _, f := range after.Policies {
		if message, ok := shadowed[f.Policy]; ok && message != already[f.Policy] {
			warnings = append(warnings, fmt.Sprintf("the policy %s is affected: %s", f.Policy, message))
		}
	}
	return warnings
}

// shadows are the Shadowed conditions of all policies but one.
func shadows(findings plan.Findings, but types.NamespacedName) map[types.NamespacedName]string {
	found := map[types.NamespacedName]string{}
	for _, f := range findings.Policies {
		for _, c := range f.Conditions {
			if c.Type == plan.ConditionShadowed && c.Status == metav1.ConditionTrue && f.Policy != but {
				found[f.Policy] = strings.TrimSpace(c.Message)
			}
		}
	}
	return found
}
