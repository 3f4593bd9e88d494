package addressslice

import (
	"time"
)

// work is what is to be done for a selector.
type work struct {
	changes
	// since is when the first change happened that it writes; zero when nobody waits for it.
	since time.Time
	// last says that the selector is to be forgotten when it is done.
	last bool
	// again is when to look again if nothing else happens; zero for never.
	again time.Duration
}

// work returns what is to be done for a selector. It takes everything for written: if that fails, tell undone.
func (b *board) work(key string, o Options, now time.Time) work {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.selectors[key]
	if s == nil || b.phase == engineLeaving {
		return work{}
	}
	existing := s.records.sorted()
	if b.phase == engineAbsent {
		return work{changes: changes{remove: existing}, last: s.users == 0}
	}
	var w work
	if s.users == 0 {
		if w.again = s.since.Add(o.Grace).Sub(now); w.again <= 0 {
			return work{changes: changes{remove: existing}, last: true}
		}
	}
	w.changes = distribute(key, &s.spec, existing, s.peers(), o.PeersPerSlice)
	w.since, s.changed = s.changed, time.Time{}
	if len(w.create)+len(w.update)+len(w.remove) > 0 {
		s.written = now
	}
	return w
}

// undone notes that a selector's work failed.
func (b *board) undone(key string, w work) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.selectors[key]; s != nil && !w.since.IsZero() {
		s.changed = w.since
	}
}

// finish forgets a selector whose last work is done, unless it is used again or has slices again.
func (b *board) finish(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.selectors[key]; s != nil && s.users == 0 && len(s.records) == 0 {
		b.forget(s)
	}
}

// delay is how long a selector that was touched waits until it is written.
func (b *board) delay(key string, o Options, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.selectors[key]; s != nil {
		return max(o.Batch, s.written.Add(o.Interval).Sub(now))
	}
	return o.Batch
}
