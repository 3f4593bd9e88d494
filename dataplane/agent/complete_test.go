package agent

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

func policyFor(name string, generation int64, role string) v1alpha1.L7Policy {
	p := v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), Generation: generation}}
	p.Spec.Ingress = []v1alpha1.IngressRule{{From: []v1alpha1.Peer{{PodSelector: selectorOf(role)}}}}
	return p
}

func selectorOf(role string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"role": role}}
}

func sliceFor(role string) v1alpha1.AddressSlice {
	return v1alpha1.AddressSlice{
		ObjectMeta: metav1.ObjectMeta{Name: role, UID: types.UID("slice-" + role)},
		Selector:   v1alpha1.PeerSelector{Namespace: "shop", PodSelector: selectorOf(role)},
	}
}

// said is a choice, in short.
func said(c choice) []string {
	var all []string
	for _, p := range c.policies {
		text := p.Name + string(rune('0'+p.Generation))
		if c.unresolved[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] != nil {
			text += " unresolved"
		}
		all = append(all, text)
	}
	for _, s := range c.slices {
		all = append(all, "slice "+s.Name)
	}
	if c.hold {
		all = append(all, "hold")
	}
	return all
}

// TestComplete plays what comes one after the other, and what is chosen then.
func TestComplete(t *testing.T) {
	type step struct {
		after    time.Duration // since the beginning
		policies []v1alpha1.L7Policy
		slices   []v1alpha1.AddressSlice
		want     []string
		again    time.Duration
	}
	web1, web2 := policyFor("web", 1, "client"), policyFor("web", 2, "other")
	client, other := sliceFor("client"), sliceFor("other")
	all := func(p ...v1alpha1.L7Policy) []v1alpha1.L7Policy { return p }
	have := func(s ...v1alpha1.AddressSlice) []v1alpha1.AddressSlice { return s }
	for name, steps := range map[string][]step{
		"complete at once": {{0, all(web1), have(client), []string{"web1", "slice client"}, 0}},
		"nothing is put in force at the start before everything is known": {
			{0, all(web1), nil, []string{"hold"}, 5 * time.Second},
			{2 * time.Second, all(web1), have(client), []string{"web1", "slice client"}, 0},
		},
		"at the start it lasts five seconds": {
			{0, all(web1), nil, []string{"hold"}, 5 * time.Second},
			{4 * time.Second, all(web1), nil, []string{"hold"}, time.Second},
			{5 * time.Second, all(web1), nil, []string{"web1 unresolved"}, 0},
			{6 * time.Second, all(web1), have(client), []string{"web1", "slice client"}, 0},
		},
		"a new policy waits": {
			{0, nil, nil, nil, 0},
			{9 * time.Second, all(web1), nil, nil, 5 * time.Second},
			{12 * time.Second, all(web1), have(client), []string{"web1", "slice client"}, 0},
		},
		"a new version waits, and the last one holds": {
			{0, all(web1), have(client), []string{"web1", "slice client"}, 0},
			{9 * time.Second, all(web2), have(client), []string{"web1", "slice client"}, 5 * time.Second},
			{13 * time.Second, all(web2), have(client), []string{"web1", "slice client"}, time.Second},
			{14 * time.Second, all(web2), have(client), []string{"web2 unresolved", "slice client"}, 0},
			{15 * time.Second, all(web2), have(client, other), []string{"web2", "slice client", "slice other"}, 0},
		},
		"slices that vanish are kept for a while": {
			{0, all(web1), have(client), []string{"web1", "slice client"}, 0},
			{9 * time.Second, all(web1), nil, []string{"web1", "slice client"}, 5 * time.Second},
			{14 * time.Second, all(web1), nil, []string{"web1 unresolved"}, 0},
		},
		"slices that nobody needs any more are not": {
			{0, all(web1), have(client), []string{"web1", "slice client"}, 0},
			{time.Second, all(web2), have(other), []string{"web2", "slice other"}, 0},
			{2 * time.Second, nil, nil, nil, 0},
			{3 * time.Second, all(web1), nil, nil, 5 * time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCompleter()
			for i, s := range steps {
				got := c.choose(s.policies, s.slices, time.Unix(1000, 0).Add(s.after))
				if !slices.Equal(said(got), s.want) || got.again != s.again {
					t.Errorf("step %d: %q, again in %s; want %q, again in %s", i, said(got), got.again, s.want, s.again)
				}
			}
		})
	}
}
