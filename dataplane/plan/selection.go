package plan

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// podSelection is what a selector selects.
type podSelection struct {
	// pods are those with addresses of their own, sorted.
	pods []int32
	// addresses are the ids of their addresses, sorted.
	addresses []int32
	// host are those that use their node's network, sorted.
	host []int32
}

// selectPods selects by labels in one namespace. Equal questions get the same answer, which is not to be changed.
func (x *index) selectPods(namespace string, selector labels.Selector) *podSelection {
	if isNothing(selector) {
		return &podSelection{}
	}
	key := namespace + "\x00" + selector.String()
	if s, ok := x.selections[key]; ok {
		return s
	}
	s := &podSelection{}
	x.match(s, namespace, selector)
	s.finish(x)
	x.selections[key] = s
	return s
}

// selectPeers selects by labels in the namespaces that have the wanted labels themselves.
func (x *index) selectPeers(namespaces, pods labels.Selector) *podSelection {
	if isNothing(namespaces) || isNothing(pods) {
		return &podSelection{}
	}
	key := namespaces.String() + "\x00\x00" + pods.String()
	if s, ok := x.selections[key]; ok {
		return s
	}
	s := &podSelection{}
	for _, name := range x.namespaceNames {
		if namespaces.Matches(x.namespaces[name]) {
			x.match(s, name, pods)
		}
	}
	s.finish(x)
	x.selections[key] = s
	return s
}

func (x *index) match(s *podSelection, namespace string, selector labels.Selector) {
	for _, id := range x.candidates(namespace, selector) {
		p := &x.pods[id]
		if !selector.Matches(labels.Set(p.object.Labels)) {
			continue
		}
		if p.host {
			s.host = append(s.host, id)
			continue
		}
		s.pods = append(s.pods, id)
	}
}

// candidates returns a list, as short as is cheap to find, that holds all Pods that the selector may match.
func (x *index) candidates(namespace string, selector labels.Selector) []int32 {
	shortest := x.byNamespace[namespace]
	requirements, _ := selector.Requirements()
	for _, r := range requirements {
		values := r.ValuesUnsorted()
		switch r.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
		default:
			continue
		}
		if len(values) != 1 {
			continue
		}
		if have := x.byLabel[podLabel{namespace, r.Key(), values[0]}]; len(have) < len(shortest) {
			shortest = have
		}
	}
	return shortest
}

func (s *podSelection) finish(x *index) {
	s.pods, s.host = sortedUnique(s.pods), sortedUnique(s.host)
	for _, id := range s.pods {
		s.addresses = append(s.addresses, x.pods[id].addresses...)
	}
	s.addresses = sortedUnique(s.addresses)
}

// parseSelector turns an API selector into one that matches; of a faulty one it returns one that matches nothing, and why.
func parseSelector(s *metav1.LabelSelector) (labels.Selector, error) {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing(), err
	}
	return selector, nil
}

// isNothing tells the selector of nothing from that of everything; both are written as "".
func isNothing(s labels.Selector) bool {
	_, selectable := s.Requirements()
	return !selectable
}

func sortedUnique(ids []int32) []int32 {
	slices.Sort(ids)
	return slices.Compact(ids)
}
