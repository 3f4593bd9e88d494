package agent

import (
	"sync"
	"time"
)

// notice is when the agent first heard of changes that are not in force yet; the zero time when there are none.
type notice struct {
	mu    sync.Mutex
	since time.Time
}

// note notes a change at a time.
func (n *notice) note(at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.since.IsZero() || at.Before(n.since) {
		n.since = at
	}
}

// take gives the time, for whoever puts the changes in force now. Later changes are others'.
func (n *notice) take() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.since
	n.since = time.Time{}
	return t
}

// giveBack is for who took a time and did not put the changes in force.
func (n *notice) giveBack(t time.Time) {
	if !t.IsZero() {
		n.note(t)
	}
}

// changed is called after each change of what the agent watches.
func (a *Agent) changed() {
	a.noticed.note(time.Now())
	a.poke()
}

// inForce tells how long changes have taken, once a Sync has put all of them in force.
func (a *Agent) inForce(noticed time.Time, err error) {
	switch {
	case err != nil:
		a.noticed.giveBack(noticed)
	case !noticed.IsZero():
		a.metrics.delay.Observe(time.Since(noticed).Seconds())
	}
}
