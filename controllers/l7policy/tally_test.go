package l7policy

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Nodes deny, begin anew and go, and managers change: what the status says never falls, and misses nothing that was reported
// while a manager looked.
func TestTallyNeverFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var status v1alpha1.L7PolicyStatus
		reports := map[string]*v1alpha1.NodePolicy{}
		tl := newTally("u", &status, reports)
		var truth int64
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			node := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "node")
			r := reports[node]
			if r == nil {
				r = &v1alpha1.NodePolicy{}
			}
			switch rapid.IntRange(0, 9).Draw(t, "event") {
			case 0: // its books are new
				n := rapid.Int64Range(0, 3).Draw(t, "denied")
				if n >= r.Denied {
					continue // nobody can tell that from going on
				}
				truth += n
				r = &v1alpha1.NodePolicy{Denied: n}
			case 1: // it goes
				delete(reports, node)
				continue
			case 2: // another manager takes over
				status.Denied = tl.denied
				tl = newTally("u", &status, reports)
				for name := range reports {
					if tl.seen[name] != (seen{denied: reports[name].Denied}) {
						t.Fatalf("%s is not seen", name)
					}
				}
				continue
			default:
				n := rapid.Int64Range(0, 3).Draw(t, "denied")
				if reports[node] == nil && tl.seen[node].denied > 0 {
					continue // it comes back with new books that look like the old ones, or not: see below
				}
				truth += n
				r = &v1alpha1.NodePolicy{Denied: r.Denied + n}
			}
			reports[node] = r
			before := tl.denied
			tl.see(node, r)
			if tl.denied < before {
				t.Fatalf("the count falls from %d to %d", before, tl.denied)
			}
		}
		if tl.denied != truth {
			t.Fatalf("%d are counted of %d", tl.denied, truth)
		}
	})
}

func TestTallyOfAnotherPolicy(t *testing.T) {
	s := newState()
	name := types.NamespacedName{Namespace: "shop", Name: "web"}
	old := s.totalsOf(name, "first", &v1alpha1.L7PolicyStatus{Denied: 5})
	if old.denied != 5 {
		t.Errorf("the count begins with %d, want what the status says, 5", old.denied)
	}
	if now := s.totalsOf(name, "second", &v1alpha1.L7PolicyStatus{}); now.denied != 0 {
		t.Errorf("another policy of the name begins with %d", now.denied)
	}
}
