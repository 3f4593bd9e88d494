package addressslice

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// changes are what has to be written so that the slices of a selector hold its peers. They are copies.
type changes struct {
	create, update, remove []*v1alpha1.AddressSlice
}

// draft is a slice that is being worked out.
type draft struct {
	slice   *v1alpha1.AddressSlice
	peers   []v1alpha1.PeerAddresses
	changed bool
	created bool
}

// distribute works out in which slice each peer stands. A peer stays where it is. New ones go into slices that change anyway, then
// into the fullest slices that have room for all of them, then into new ones. A slice that comes to be empty is removed,
// unless it is the last. The peers are sorted.
func distribute(key string, spec *v1alpha1.PeerSelector, existing []*v1alpha1.AddressSlice, peers []v1alpha1.PeerAddresses, most int) changes {
	drafts := keep(key, existing, peers, most)
	placed := map[types.NamespacedName]bool{}
	for _, d := range drafts {
		for i := range d.peers {
			placed[nameOf(&d.peers[i])] = true
		}
	}
	var homeless []v1alpha1.PeerAddresses
	for i := range peers {
		if !placed[nameOf(&peers[i])] {
			homeless = append(homeless, peers[i])
		}
	}
	for len(homeless) > 0 {
		d := choose(drafts, len(homeless), most)
		if d == nil {
			d = &draft{created: true, slice: newSlice(key, spec, drafts)}
			drafts = append(drafts, d)
		}
		n := min(len(homeless), most-len(d.peers))
		d.peers, homeless, d.changed = append(d.peers, homeless[:n]...), homeless[n:], true
	}
	if len(drafts) == 0 {
		drafts = append(drafts, &draft{created: true, changed: true, slice: newSlice(key, spec, nil)})
	}
	return settle(key, drafts)
}

// keep takes over the existing slices, with those of their peers that are still wanted and stand in no slice before.
func keep(key string, existing []*v1alpha1.AddressSlice, peers []v1alpha1.PeerAddresses, most int) []*draft {
	wanted := make(map[types.NamespacedName]*v1alpha1.PeerAddresses, len(peers))
	for i := range peers {
		wanted[nameOf(&peers[i])] = &peers[i]
	}
	var drafts []*draft
	for _, s := range existing {
		d := &draft{slice: s, changed: s.Labels[v1alpha1.LabelPeerSelector] != key}
		for i := range s.Peers {
			name := nameOf(&s.Peers[i])
			want := wanted[name]
			if want == nil || len(d.peers) == most {
				d.changed = true
				continue
			}
			delete(wanted, name)
			d.changed = d.changed || !equalPeers(want, &s.Peers[i])
			d.peers = append(d.peers, *want)
		}
		drafts = append(drafts, d)
	}
	return drafts
}

// choose returns the slice that new peers go into, or nil.
func choose(drafts []*draft, count, most int) *draft {
	room := func(d *draft) bool { return len(d.peers) < most }
	if i := slices.IndexFunc(drafts, func(d *draft) bool { return d.changed && room(d) }); i >= 0 {
		return drafts[i]
	}
	var fullest *draft
	for _, d := range drafts {
		if most-len(d.peers) >= min(count, most) && room(d) && (fullest == nil || len(d.peers) > len(fullest.peers)) {
			fullest = d
		}
	}
	return fullest
}

func newSlice(key string, spec *v1alpha1.PeerSelector, beside []*draft) *v1alpha1.AddressSlice {
	for number := 0; ; number++ {
		name := fmt.Sprintf("%s-%d", key, number)
		if !slices.ContainsFunc(beside, func(d *draft) bool { return d.slice.Name == name }) {
			return &v1alpha1.AddressSlice{
				ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.LabelPeerSelector: key}},
				Selector:   *spec.DeepCopy(),
			}
		}
	}
}

// settle makes changes of the drafts.
func settle(key string, drafts []*draft) changes {
	var c changes
	left := len(drafts)
	for _, d := range drafts {
		if len(d.peers) == 0 && left > 1 && !d.created {
			c.remove = append(c.remove, d.slice)
			left--
			continue
		}
		if !d.changed {
			continue
		}
		slice := d.slice.DeepCopy()
		slice.Peers = d.peers
		slices.SortFunc(slice.Peers, comparePeers)
		if d.created {
			c.create = append(c.create, slice)
			continue
		}
		if slice.Labels == nil {
			slice.Labels = map[string]string{}
		}
		slice.Labels[v1alpha1.LabelPeerSelector] = key
		c.update = append(c.update, slice)
	}
	return c
}

func nameOf(p *v1alpha1.PeerAddresses) types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}

func byName(a, b *v1alpha1.AddressSlice) int { return cmp.Compare(a.Name, b.Name) }
