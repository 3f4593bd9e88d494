package convert

import (
	"errors"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// selected gives the names of the namespaces that a selector means: the one that it names, or those among what was read.
func (c *converter) selected(s *metav1.LabelSelector) ([]string, error) {
	if name, ok := oneNamespace(s); ok {
		return []string{name}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil, err
	}
	var all []string
	for i := range c.namespaces {
		set := labels.Merge(labels.Set{namespaceName: c.namespaces[i].Name}, c.namespaces[i].Labels)
		if selector.Matches(set) {
			all = append(all, c.namespaces[i].Name)
		}
	}
	slices.Sort(all)
	if len(all) == 0 {
		return nil, errors.New("an L7Policy belongs to a namespace, and which are meant is not known; give the cluster's Namespaces too: " +
			"kubectl get namespaces -o yaml | meerkat convert -f - -f policies.yaml")
	}
	return all, nil
}

// oneNamespace gives the namespace that a selector names, if it does nothing else.
func oneNamespace(s *metav1.LabelSelector) (string, bool) {
	if s == nil || len(s.MatchExpressions) > 0 || len(s.MatchLabels) != 1 {
		return "", false
	}
	name, ok := s.MatchLabels[namespaceName]
	return name, ok
}

// everything is the selector that selects all.
func everything() metav1.LabelSelector { return metav1.LabelSelector{} }
