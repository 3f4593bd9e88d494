package webhook

import (
	"errors"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	suricatarules "github.com/meerkat-dev/meerkat/suricata-rules"
)

// ruleSetID is the one that makes rules the longest: what compiles with it compiles with every other.
const ruleSetID = ledger.EgressLast

// entryFaults compiles the entries of each rule one by one, and then together.
func entryFaults(policy *v1alpha1.L7Policy) field.ErrorList {
	var errs field.ErrorList
	name := types.NamespacedName{Namespace: policy.Namespace, Name: policy.Name}
	spec := field.NewPath("spec")
	for i := range policy.Spec.Ingress {
		errs = append(errs, ruleFaults(name, spec.Child("ingress").Index(i).Child("l7"), policy.Spec.Ingress[i].L7)...)
	}
	for i := range policy.Spec.Egress {
		errs = append(errs, ruleFaults(name, spec.Child("egress").Index(i).Child("l7"), policy.Spec.Egress[i].L7)...)
	}
	return errs
}

func ruleFaults(name types.NamespacedName, path *field.Path, matches []v1alpha1.L7Match) field.ErrorList {
	var errs field.ErrorList
	var entries []l7.Entry
	for i := range matches {
		entry, err := plan.EntryOf(name, path.String(), &matches[i])
		if err == nil {
			err = compile([]l7.Entry{entry})
		}
		errs = append(errs, at(path.Index(i), err)...)
		entries = append(entries, entry)
	}
	if len(errs) == 0 {
		errs = at(path, compile(entries))
	}
	return errs
}

func compile(entries []l7.Entry) error {
	_, err := suricatarules.Compile(suricatarules.RuleSet{ID: ruleSetID, Entries: entries})
	return err
}

// at places the rule compiler's reasons at a field. An entry for both versions of HTTP fails for both, but is wrong once.
func at(path *field.Path, err error) field.ErrorList {
	var errs field.ErrorList
	told := map[string]bool{}
	for _, reason := range leaves(err) {
		why := reason.Error()
		if entry, ok := errors.AsType[*suricatarules.EntryError](reason); ok {
			part := strings.TrimRight(entry.Field, "12")
			if told[part] && part != entry.Field {
				continue
			}
			told[part] = true
			why = part + ": " + entry.Err.Error()
		}
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, why))
	}
	return errs
}

// leaves takes joined errors apart.
func leaves(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // Only what errors.Join made is taken apart.
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, leaves(e)...)
	}
	return all
}

// ruleSetFaults compiles the rule sets that the policy is part of. Those that do not compile without it either are not its fault.
func ruleSetFaults(p *plan.NodePlan, name types.NamespacedName) field.ErrorList {
	var errs field.ErrorList
	told := map[string]bool{}
	for i := range p.RuleSets {
		set := &p.RuleSets[i]
		if !slices.Contains(set.Policies, name.String()) {
			continue
		}
		_, err := suricatarules.Compile(suricatarules.RuleSet{ID: ruleSetID, Audit: set.Audit, Policies: set.Policies, Entries: set.Entries})
		if err == nil {
			continue
		}
		others := slices.DeleteFunc(slices.Clone(set.Entries), func(e l7.Entry) bool { return e.Policy == name.String() })
		if compile(others) != nil || told[err.Error()] {
			continue
		}
		told[err.Error()] = true
		errs = append(errs, field.Invalid(field.NewPath("spec"), field.OmitValueType{}, err.Error()))
	}
	return errs
}
