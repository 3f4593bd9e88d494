package l7policy

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/fleet"
)

// tally keeps a policy's counts. They never fall: see the package's comment.
type tally struct {
	uid types.UID
	totals
	// seen are the counts, other than zero, that nodes have reported; also of nodes that are gone.
	seen map[string]seen
}

type seen struct{ denied, audited int64 }

// newTally begins with what the status says, or with the sum of what nodes report if that is more.
func newTally(uid types.UID, status *v1alpha1.L7PolicyStatus, reports map[string]*v1alpha1.NodePolicy) *tally {
	t := &tally{uid: uid, seen: map[string]seen{}}
	for node, p := range reports {
		t.see(node, p)
	}
	t.denied, t.audited = max(t.denied, status.Denied), max(t.audited, status.Audited)
	if status.LastDenied != nil && status.LastDenied.After(t.last) {
		t.last = status.LastDenied.Time
	}
	return t
}

// see takes in what a node reports, and says whether it changes the counts. A nil tally takes in nothing.
func (t *tally) see(node string, p *v1alpha1.NodePolicy) bool {
	if t == nil {
		return false
	}
	was := t.seen[node]
	denied, audited := fleet.Increase(was.denied, p.Denied), fleet.Increase(was.audited, p.Audited)
	if now := (seen{p.Denied, p.Audited}); now != was {
		t.seen[node] = now
	}
	t.denied += denied
	t.audited += audited
	if p.LastDenied != nil && p.LastDenied.After(t.last) {
		t.last = p.LastDenied.Truncate(time.Second)
	}
	return denied+audited > 0
}
