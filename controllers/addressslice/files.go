package addressslice

import (
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// files holds selectors by what a Pod must have for them to select it, so that the selectors which may select a Pod are found
// without going through all.
type files map[place]map[string]*selector

// place is a namespace, or "" for selectors that select namespaces, and one label, or none; with only the label's key for
// selectors that ask for its being there.
type place struct {
	namespace, key, value string
	exists                bool
}

func (f files) file(s *selector) {
	for _, p := range s.places() {
		if f[p] == nil {
			f[p] = map[string]*selector{}
		}
		f[p][s.key] = s
	}
}

func (f files) remove(s *selector) {
	for _, p := range s.places() {
		delete(f[p], s.key)
		if len(f[p]) == 0 {
			delete(f, p)
		}
	}
}

// places returns where a selector is filed: under the first label whose value it asks for, or under one that must be there.
func (s *selector) places() []place {
	requirements, selectable := s.pods.Requirements()
	if !selectable {
		return nil // it selects nothing
	}
	exists := ""
	for i := range requirements {
		r := &requirements[i]
		switch r.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			var all []place
			for _, value := range r.ValuesUnsorted() {
				all = append(all, place{s.spec.Namespace, r.Key(), value, false})
			}
			return all
		case selection.Exists:
			exists = r.Key()
		}
	}
	return []place{{s.spec.Namespace, exists, "", exists != ""}}
}

// candidates calls f for all selectors that may select a Pod with such labels, and for a few others; for some twice.
func (f files) candidates(namespace string, pod labels.Set, found func(*selector)) {
	at := func(p place) {
		for _, s := range f[p] {
			found(s)
		}
	}
	for _, n := range []string{namespace, ""} {
		at(place{namespace: n})
		for key, value := range pod {
			at(place{n, key, value, false})
			at(place{n, key, "", true})
		}
	}
}
