package agent

import (
	"sync"
	"time"
)

// Events go to the plain standard output at once, and in the long run so many a second; further ones are counted and not written.
const (
	eventBurst = 1000
	eventRate  = 100
)

// limiter says which events are written.
type limiter struct {
	mu     sync.Mutex
	tokens float64
	last   time.Time
	lost   uint64 // since the last one that was written
}

// take tells whether an event may be written now, and how many were not since the last one.
func (l *limiter) take(now time.Time) (allowed bool, lost uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.IsZero() {
		l.tokens = eventBurst
	} else {
		l.tokens = min(eventBurst, l.tokens+now.Sub(l.last).Seconds()*eventRate)
	}
	l.last = now
	if l.tokens < 1 {
		l.lost++
		return false, 0
	}
	l.tokens--
	lost, l.lost = l.lost, 0
	return true, lost
}
