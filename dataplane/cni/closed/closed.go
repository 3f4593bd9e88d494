// Package closed finds, for the time when the node's agent does not answer, the Pods that must not start ungoverned.
package closed

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/cni"
)

// Selectors gives the podSelectors of those policies that hold up their Pods while they cannot be put in force: the ones that
// enforce, and whose failurePolicy is Closed. A policy with a selector that is not valid governs nothing, and is left out.
func Selectors(policies []*v1alpha1.L7Policy) cni.Selectors {
	s := cni.Selectors{Namespaces: map[string][]cni.Selector{}}
	for _, p := range policies {
		if !Holds(p) {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
		if err != nil {
			continue
		}
		s.Namespaces[p.Namespace] = append(s.Namespaces[p.Namespace], cni.Selector{Policy: p.Name, Pods: selector.String()})
	}
	return s
}

// Holds says whether a policy holds up its Pods while it cannot be put in force. The schema's defaults count where a field is
// empty.
func Holds(p *v1alpha1.L7Policy) bool {
	return p.Spec.Mode != v1alpha1.ModeAudit && p.Spec.FailurePolicy != v1alpha1.FailOpen
}
