package plan

import (
	"errors"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// EntryOf converts one l7 entry of a rule as Compile does, so that it can be judged by itself. name is the policy's, and rule is
// what the rule is called. The error tells everything for which Compile would leave the entry out; it names no field.
func EntryOf(name types.NamespacedName, rule string, match *v1alpha1.L7Match) (l7.Entry, error) {
	p := &policy{label: name.String()}
	e := convert(p, "the entry", match)
	e.Policy, e.Rule = p.label, rule
	var errs []error
	for _, fault := range p.faults {
		errs = append(errs, errors.New(fault.message))
	}
	return e, errors.Join(errs...)
}
