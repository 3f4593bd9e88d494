package addressslice

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

const key = "abcdefghijklmnopqrstuvwxyz"

// apply does to slices what changes say, as the API server would.
func apply(existing []*v1alpha1.AddressSlice, c changes) []*v1alpha1.AddressSlice {
	after := map[string]*v1alpha1.AddressSlice{}
	for _, s := range existing {
		after[s.Name] = s
	}
	for _, s := range slices.Concat(c.create, c.update) {
		after[s.Name] = s
	}
	for _, s := range c.remove {
		delete(after, s.Name)
	}
	return records(after).sorted()
}

func peersNamed(names ...int) []v1alpha1.PeerAddresses {
	var all []v1alpha1.PeerAddresses
	for _, n := range names {
		all = append(all, v1alpha1.PeerAddresses{Namespace: "a", Name: fmt.Sprintf("pod%02d", n), Addresses: []string{fmt.Sprint("10.0.0.", n)}})
	}
	return all
}

// show writes slices as text: name: peers.
func show(all []*v1alpha1.AddressSlice) []string {
	text := []string{}
	for _, s := range all {
		line := s.Name[len(key)+1:] + ":"
		for _, p := range s.Peers {
			line += " " + p.Name[len("pod"):]
		}
		text = append(text, line)
	}
	return text
}

func TestPlacement(t *testing.T) {
	count := func(from, to int) []v1alpha1.PeerAddresses {
		var names []int
		for n := from; n <= to; n++ {
			names = append(names, n)
		}
		return peersNamed(names...)
	}
	var all []*v1alpha1.AddressSlice
	for _, step := range []struct {
		name   string
		peers  []v1alpha1.PeerAddresses
		want   []string
		writes [3]int
	}{
		{"nobody has one empty slice", nil, []string{"0:"}, [3]int{1, 0, 0}},
		{"the empty slice is filled", count(1, 2), []string{"0: 01 02"}, [3]int{0, 1, 0}},
		{"nothing changes", count(1, 2), []string{"0: 01 02"}, [3]int{}},
		{"what does not fit goes into new slices", count(1, 7), []string{"0: 01 02", "1: 03 04 05", "2: 06 07"}, [3]int{2, 0, 0}},
		{"what replaces another takes its place", peersNamed(1, 3, 4, 5, 6, 7, 8), []string{"0: 01 08", "1: 03 04 05", "2: 06 07"}, [3]int{0, 1, 0}},
		{"the others stay where they are", peersNamed(1, 5, 7, 8), []string{"0: 01 08", "1: 05", "2: 07"}, [3]int{0, 2, 0}},
		{"the fullest slice is filled", peersNamed(1, 5, 7, 8, 9), []string{"0: 01 08 09", "1: 05", "2: 07"}, [3]int{0, 1, 0}},
		{"an empty slice goes", peersNamed(1, 7, 8, 9), []string{"0: 01 08 09", "2: 07"}, [3]int{0, 0, 1}},
		{"a free number is used again", peersNamed(1, 2, 3, 4, 7, 8, 9), []string{"0: 01 08 09", "1: 02 03 04", "2: 07"}, [3]int{1, 0, 0}},
		{"one stays when nobody is left", nil, []string{"2:"}, [3]int{0, 1, 2}},
	} {
		c := distribute(key, &v1alpha1.PeerSelector{Namespace: "a"}, all, step.peers, 3)
		all = apply(all, c)
		if diff := cmp.Diff(step.want, show(all)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		if writes := [3]int{len(c.create), len(c.update), len(c.remove)}; writes != step.writes {
			t.Errorf("%s: %v slices are created, updated, deleted, want %v", step.name, writes, step.writes)
		}
	}
}

// Whatever the slices are, they come to hold each peer once, and a second look changes nothing.
func TestPlacementHoldsEachPeerOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOfDistinct(rapid.IntRange(1, 15), rapid.ID[int])
		most := rapid.IntRange(1, 5).Draw(t, "most")
		var all []*v1alpha1.AddressSlice
		for i := range rapid.IntRange(0, 4).Draw(t, "slices") {
			s := newSlice(key, &v1alpha1.PeerSelector{}, nil)
			s.Name = fmt.Sprintf("%s-%d", key, i)
			s.Peers = peersNamed(numbers.Draw(t, "held")...)
			if rapid.Bool().Draw(t, "unlabelled") {
				s.Labels = nil
			}
			all = append(all, s)
		}
		for range 3 {
			want := peersNamed(numbers.Draw(t, "wanted")...)
			slices.SortFunc(want, comparePeers)
			c := distribute(key, &v1alpha1.PeerSelector{}, all, want, most)
			all = apply(all, c)
			got := []v1alpha1.PeerAddresses{}
			for _, s := range all {
				if len(s.Peers) > most || s.Labels[v1alpha1.LabelPeerSelector] != key || (len(s.Peers) == 0 && len(all) > 1) {
					t.Fatalf("a slice is not as it should be: %v", show(all))
				}
				got = append(got, s.Peers...)
			}
			slices.SortFunc(got, comparePeers)
			if diff := cmp.Diff(append([]v1alpha1.PeerAddresses{}, want...), got); diff != "" {
				t.Fatalf("the slices hold others (-want +got):\n%s", diff)
			}
			if again := distribute(key, &v1alpha1.PeerSelector{}, all, want, most); len(again.create)+len(again.update)+len(again.remove) > 0 {
				t.Fatalf("a second look changes slices: %+v", again)
			}
		}
	})
}
