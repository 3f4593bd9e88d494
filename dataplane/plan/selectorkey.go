package plan

import (
	"encoding/base32"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// KeyedSelector is a peer selector with its key.
type KeyedSelector struct {
	// Key is what SelectorKey gives for the selector.
	Key      string
	Selector v1alpha1.PeerSelector
}

// SelectorKey names what a peer's selectors select for a policy of the namespace: 26 lower-case letters and digits, so that it is
// a valid label value and a valid beginning of an object's name. Selectors that say the same have the same key, in whatever order
// and form they say it; others have another (it is 128 bits of a hash). It is empty for a peer without selectors, and for one
// whose selectors cannot be used: neither selects any Pod.
func SelectorKey(namespace string, peer *v1alpha1.Peer) string {
	if peer.PodSelector == nil && peer.NamespaceSelector == nil {
		return ""
	}
	return keyOf(peerSelector(namespace, peer))
}

// PeerSelectors returns the peer selectors that a policy needs to have resolved, sorted by key, each once. Those that cannot be
// used are left out. A rule of egress that names a port by name and has peers other than selectors needs every Pod of the cluster,
// since the name may be one of any Pod's that these peers hold.
func PeerSelectors(policy *v1alpha1.L7Policy) []KeyedSelector {
	var all []KeyedSelector
	add := func(s v1alpha1.PeerSelector) {
		if key := keyOf(s); key != "" {
			all = append(all, KeyedSelector{key, s})
		}
	}
	sources := slices.Concat(ingressSources(policy.Spec.Ingress), egressSources(policy.Spec.Egress))
	for i := range sources {
		for k := range sources[i].peers {
			peer := &sources[i].peers[k].Peer
			if peer.PodSelector != nil || peer.NamespaceSelector != nil {
				add(peerSelector(policy.Namespace, peer))
			}
		}
		if i >= len(policy.Spec.Ingress) && needsEveryPod(&sources[i]) {
			add(v1alpha1.PeerSelector{NamespaceSelector: &metav1.LabelSelector{}})
		}
	}
	slices.SortFunc(all, func(a, b KeyedSelector) int { return strings.Compare(a.Key, b.Key) })
	return slices.CompactFunc(all, func(a, b KeyedSelector) bool { return a.Key == b.Key })
}

// InspectionSelectors returns the peer selectors that inspections need to have resolved: every Pod. Alerts name whoever is at the other
// end, and a port's name may be one of any Pod's.
func InspectionSelectors() []KeyedSelector {
	every := v1alpha1.PeerSelector{NamespaceSelector: &metav1.LabelSelector{}}
	return []KeyedSelector{{keyOf(every), every}}
}

// MissingSlices returns the keys, sorted, of those peer selectors of a policy for which the snapshot has no AddressSlice. A
// selector that selects nobody has an empty one: a missing slice means that nobody has looked yet.
func MissingSlices(policy *v1alpha1.L7Policy, s *Snapshot) []string {
	have := make(map[string]bool, len(s.AddressSlices))
	for i := range s.AddressSlices {
		have[SliceKey(&s.AddressSlices[i])] = true
	}
	var missing []string
	for _, k := range PeerSelectors(policy) {
		if !have[k.Key] {
			missing = append(missing, k.Key)
		}
	}
	return missing
}

// SliceKey returns the key of the selector that a slice is about. What its label says does not count.
func SliceKey(s *v1alpha1.AddressSlice) string {
	return keyOf(s.Selector)
}

func needsEveryPod(s *ruleSource) bool {
	named := slices.ContainsFunc(s.ports, func(p v1alpha1.PolicyPort) bool { return p.Port != nil && p.Port.StrVal != "" })
	return named && (len(s.peers) == 0 || slices.ContainsFunc(s.peers, func(p v1alpha1.EgressPeer) bool {
		return p.Service != nil || p.IPBlock != nil
	}))
}

func peerSelector(namespace string, peer *v1alpha1.Peer) v1alpha1.PeerSelector {
	s := v1alpha1.PeerSelector{NamespaceSelector: peer.NamespaceSelector, PodSelector: peer.PodSelector}
	if s.NamespaceSelector == nil {
		s.Namespace = namespace
	}
	return s
}

// keyOf returns "" for a selector that cannot be used.
func keyOf(s v1alpha1.PeerSelector) string {
	pods, podsUsable := canonicalSelector(s.PodSelector)
	namespaces, namespacesUsable := canonicalSelector(s.NamespaceSelector)
	if !podsUsable || !namespacesUsable {
		return ""
	}
	d := newDigest()
	if s.NamespaceSelector != nil {
		d.text("namespaces")
		d.texts(namespaces)
	} else {
		d.text("namespace")
		d.text(s.Namespace)
	}
	d.texts(pods)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(d.Sum(nil)[:16]))
}

// canonicalSelector writes a selector's requirements, sorted and each once. Without a selector there are none, as in one of
// everything. It returns false for a selector that cannot be used.
func canonicalSelector(s *metav1.LabelSelector) ([]string, bool) {
	if s == nil {
		return nil, true
	}
	selector, err := parseSelector(s)
	if err != nil {
		return nil, false
	}
	requirements, _ := selector.Requirements()
	written := make([]string, 0, len(requirements))
	for i := range requirements {
		written = append(written, canonicalRequirement(&requirements[i]))
	}
	return canonical(written), true
}

func canonicalRequirement(r *labels.Requirement) string {
	operator := r.Operator()
	if operator == selection.Equals || operator == selection.DoubleEquals {
		operator = selection.In
	}
	return fmt.Sprintf("%s %s %q", r.Key(), operator, canonical(r.ValuesUnsorted()))
}
