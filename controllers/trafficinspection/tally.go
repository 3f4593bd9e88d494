package trafficinspection

import (
	"cmp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/fleet"
)

// maxSignatures is how many signatures a status tells.
const maxSignatures = 10

// tally keeps an inspection's counts. They never fall.
type tally struct {
	uid    types.UID
	totals v1alpha1.AlertCounts
	// seen is what nodes have reported; also of nodes that are gone.
	seen map[string]v1alpha1.AlertCounts
}

// newTally begins with what the status says, or with the sum of what nodes report where that is more.
func newTally(uid types.UID, before *v1alpha1.AlertCounts, nodes []view) *tally {
	t := &tally{uid: uid, seen: map[string]v1alpha1.AlertCounts{}}
	t.take(nodes)
	if before != nil {
		t.totals.Total, t.totals.High, t.totals.Medium = max(t.totals.Total, before.Total), max(t.totals.High, before.High), max(t.totals.Medium, before.Medium)
		t.totals.Low, t.totals.Dropped = max(t.totals.Low, before.Low), max(t.totals.Dropped, before.Dropped)
		t.totals.Last = later(t.totals.Last, before.Last)
	}
	return t
}

// take takes in what nodes report.
func (t *tally) take(nodes []view) {
	for i := range nodes {
		if nodes[i].report == nil || nodes[i].report.Alerts == nil {
			continue
		}
		was, now := t.seen[nodes[i].name], *nodes[i].report.Alerts
		t.seen[nodes[i].name] = now
		t.totals.Total += fleet.Increase(was.Total, now.Total)
		t.totals.High += fleet.Increase(was.High, now.High)
		t.totals.Medium += fleet.Increase(was.Medium, now.Medium)
		t.totals.Low += fleet.Increase(was.Low, now.Low)
		t.totals.Dropped += fleet.Increase(was.Dropped, now.Dropped)
		t.totals.Last = later(t.totals.Last, now.Last)
	}
}

func later(a, b *metav1.Time) *metav1.Time {
	if a == nil || b != nil && a.Before(b) {
		return b.DeepCopy()
	}
	return a
}

// signatures puts together what nodes say of the signatures that matched last, and what was known before: a node tells of ten, and
// forgets when its agent starts anew.
func signatures(before []v1alpha1.SignatureCount, nodes []view) []v1alpha1.SignatureCount {
	all := map[int64]v1alpha1.SignatureCount{}
	for i := range nodes {
		if nodes[i].report == nil {
			continue
		}
		for _, s := range nodes[i].report.LastSignatures {
			have, ok := all[s.SID]
			if ok {
				s.Count += have.Count
				if s.Last.Before(have.Last) { // the later one says what it is called now
					s.Rev, s.Message, s.Severity, s.Last = have.Rev, have.Message, have.Severity, have.Last
				}
			}
			all[s.SID] = s
		}
	}
	for _, s := range before {
		have, ok := all[s.SID]
		if ok {
			have.Count = max(have.Count, s.Count)
			s = have
		}
		all[s.SID] = s
	}
	list := make([]v1alpha1.SignatureCount, 0, len(all))
	for _, s := range all {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b v1alpha1.SignatureCount) int {
		switch {
		case a.Last.Before(b.Last):
			return 1
		case b.Last.Before(a.Last):
			return -1
		}
		return cmp.Compare(a.SID, b.SID)
	})
	if len(list) == 0 {
		return nil
	}
	return list[:min(len(list), maxSignatures)]
}
