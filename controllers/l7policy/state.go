package l7policy

import (
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// state is what events leave for the next pass. It may be used from several goroutines.
type state struct {
	mu sync.Mutex
	// structural says that something has changed that all policies are judged by.
	structural bool
	// dirty are the policies whose status is to be worked out again.
	dirty map[types.NamespacedName]bool
	// reports are the nodes' reports, and about the same by policy and node.
	reports map[string]*nodeReport
	about   map[types.NamespacedName]map[string]*v1alpha1.NodePolicy
	tallies map[types.NamespacedName]*tally
	// wake holds an element when there is something to do.
	wake chan struct{}
}

// nodeReport is the last report of a node.
type nodeReport struct {
	// heard is when it came, by this machine's clock; for those that were there before the manager, when the node says it wrote it.
	heard    time.Time
	policies map[types.NamespacedName]*v1alpha1.NodePolicy
}

func newState() *state {
	return &state{
		structural: true, dirty: map[types.NamespacedName]bool{}, reports: map[string]*nodeReport{},
		about:   map[types.NamespacedName]map[string]*v1alpha1.NodePolicy{},
		tallies: map[types.NamespacedName]*tally{}, wake: make(chan struct{}, 1),
	}
}

// poke has the runner look. The caller holds the lock, or not.
func (s *state) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// setStructural notes a change that all policies are judged by.
func (s *state) setStructural() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.structural = true
	s.poke()
}

// setDirty notes that a policy is to be looked at.
func (s *state) setDirty(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty[name] = true
	s.poke()
}

// takeDirty returns what is to be done, and takes it for done.
func (s *state) takeDirty() (structural bool, dirty map[types.NamespacedName]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	structural, dirty = s.structural, s.dirty
	s.structural, s.dirty = false, map[types.NamespacedName]bool{}
	return structural, dirty
}

// setReport takes in a node's report.
func (s *state) setReport(r *v1alpha1.NodeInspection, heard time.Time) {
	policies := make(map[types.NamespacedName]*v1alpha1.NodePolicy, len(r.Status.Policies))
	for i := range r.Status.Policies {
		p := &r.Status.Policies[i]
		policies[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = p
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.reports[r.Name]
	if old == nil {
		old = &nodeReport{}
	}
	for name := range old.policies {
		if policies[name] == nil {
			delete(s.about[name], r.Name)
			s.dirty[name] = true
		}
	}
	for name, p := range policies {
		if s.about[name] == nil {
			s.about[name] = map[string]*v1alpha1.NodePolicy{}
		}
		s.about[name][r.Name] = p
		counted := s.tallies[name].see(r.Name, p)
		if was := old.policies[name]; was == nil || counted || !says(was, p) {
			s.dirty[name] = true
		}
	}
	s.reports[r.Name] = &nodeReport{heard, policies}
	if len(s.dirty) > 0 {
		s.poke()
	}
}

// removeReport takes in that a node's report was deleted.
func (s *state) removeReport(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.reports[node]
	if old == nil {
		return
	}
	for name := range old.policies {
		delete(s.about[name], node)
		s.dirty[name] = true
	}
	delete(s.reports, node)
	s.poke()
}

// says tells whether two reports say the same, counts aside.
func says(a, b *v1alpha1.NodePolicy) bool {
	x, y := *a, *b
	x.Denied, x.Audited, x.LastDenied, x.Pods = 0, 0, nil, 0
	y.Denied, y.Audited, y.LastDenied, y.Pods = 0, 0, nil, 0
	return x == y
}

// heard returns when each node was last heard of.
func (s *state) heard() map[string]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]time.Time, len(s.reports))
	for name, r := range s.reports {
		all[name] = r.heard
	}
	return all
}

// reportsOn returns what nodes say of a policy.
func (s *state) reportsOn(name types.NamespacedName) map[string]*v1alpha1.NodePolicy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.about[name])
}

// totalsOf returns a policy's counts. When they are not kept yet, or for another policy of that name, they begin with what the
// status says.
func (s *state) totalsOf(name types.NamespacedName, uid types.UID, status *v1alpha1.L7PolicyStatus) totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tallies[name]
	if t == nil || t.uid != uid {
		t = newTally(uid, status, s.about[name])
		s.tallies[name] = t
	}
	return t.totals
}

// forget drops what is kept of policies that are gone.
func (s *state) forget(exists func(types.NamespacedName) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.tallies {
		if !exists(name) {
			delete(s.tallies, name)
		}
	}
	for name, by := range s.about {
		if len(by) == 0 && !exists(name) {
			delete(s.about, name)
		}
	}
}
