package openflow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

// How often a bridge that others write to is put right: at once, but in the long run only so often. Another controller that
// never gives up must not keep a core busy.
const (
	mendingBurst  = 20
	mendingPeriod = 100 * time.Millisecond
)

const (
	// redialAfter is the pause between attempts to reach a switch that is gone; an attempt costs some microseconds.
	redialAfter = 5 * time.Millisecond
	// tellDownAfter is the pause between two calls of Watcher.Down.
	tellDownAfter = time.Second
	// beatPeriod is how often the switch is asked whether it answers, and how long it may take.
	beatPeriod = time.Second
)

// watch is what a Switch knows of the changes that the switch tells of.
type watch struct {
	mu       sync.Mutex
	listener *listener // nil while there is no connection
	seen     Overwritten
	undone   Overwritten   // what take has given since it was set to nothing
	since    time.Time     // when the first of seen was told; zero: nothing is to be mended
	wake     chan struct{} // capacity 1
	// recorded is poked when what is wanted has been recorded, and so can be sent ahead.
	recorded chan struct{} // capacity 1
	// reading is ended when others write: what is being read back is no longer so.
	reading context.CancelCauseFunc // nil while nothing is read
}

// hear takes in what the switch tells. Whether it was our own doing is found out later.
func (w *watch) hear(o Overwritten) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.add(o)
	if w.since.IsZero() {
		w.since = time.Now()
	}
	if w.reading != nil && o != (Overwritten{}) {
		w.reading(errOverwritten)
	}
	poke(w.wake)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// errOverwritten says that others wrote to the bridge while it was read.
var errOverwritten = errors.New("others write to the bridge")

// settle forgets what was done to the bridge before the call: it is about to be read as a whole. What is done after it stays.
func (w *watch) settle(ctx context.Context) {
	if l := w.current(); l != nil && l.settle(ctx) != nil {
		return // the connection is lost: with the next one everything is read anyway
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen, w.since = Overwritten{}, time.Time{}
}

// untilOverwritten gives a context that ends when others have written to the bridge since settle: what is read of it then is not so any
// more.
func (w *watch) untilOverwritten(ctx context.Context) (reading context.Context, done func()) {
	reading, cancel := context.WithCancelCause(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen != (Overwritten{}) {
		cancel(errOverwritten)
	}
	w.reading = cancel
	return reading, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.reading = nil
		cancel(nil)
	}
}

// pending is what has been told and not been mended.
func (w *watch) pending() (o Overwritten, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen, w.since
}

// take gives what has been told, and counts anew. That something was told is not forgotten.
func (w *watch) take() Overwritten {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.seen
	w.seen = Overwritten{}
	w.undone.add(o)
	return o
}

// countUndone gives what take has given since the last call.
func (w *watch) countUndone() Overwritten {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.undone
	w.undone = Overwritten{}
	return o
}

// current is the connection, or nil.
func (w *watch) current() *listener {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.listener
}

// watching tells whether Watch has been called.
func (w *watch) watching() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wake != nil
}

func (w *watch) connected(l *listener) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listener = l
}

// Watch listens to the switch itself, by a connection of its own, and mends.
func (s *OVS) Watch(ctx context.Context, w Watcher) {
	s.watch.mu.Lock()
	s.watch.wake, s.watch.recorded = make(chan struct{}, 1), make(chan struct{}, 1)
	s.watch.mu.Unlock()
	limit := &bucket{tokens: mendingBurst, last: time.Now()}
	for first := true; ctx.Err() == nil; first = false {
		l := s.awaitSwitch(ctx, w)
		if l == nil {
			return
		}
		s.watch.connected(l)
		if first {
			s.mu.Lock()
			s.keepInherited(ctx)
			s.recordSoon()
			s.mu.Unlock()
			w.Up(true)
		} else {
			s.back(ctx, w)
		}
		s.mendUntilLost(ctx, l, limit, w)
		s.watch.connected(nil)
		l.close()
	}
}

// keepInherited takes what is on the bridge for what is wanted until the first Apply, when an earlier process has left flows there:
// they are put right, too, when others change them. The caller has the lock.
func (s *OVS) keepInherited(ctx context.Context) {
	if s.wanted != nil {
		return
	}
	present, err := s.Dump(ctx)
	if err != nil || len(present.Flows) == 0 || check(present, nil) != nil {
		return
	}
	// The flows speak of these numbers: should the switch be restarted and give others, they are not put back.
	numbers, err := s.Ports(ctx)
	if err != nil {
		return
	}
	s.portsMu.Lock()
	defer s.portsMu.Unlock()
	if s.numbers == nil {
		s.numbers = map[string]uint32{}
	}
	maps.Copy(s.numbers, numbers)
	s.wanted = present
}

// awaitSwitch returns a connection, or nil when ctx is done.
func (s *OVS) awaitSwitch(ctx context.Context, w Watcher) *listener {
	told := time.Now().Add(-tellDownAfter + 10*redialAfter) // a restart that takes no time is none
	for {
		attempt, cancel := context.WithTimeout(ctx, s.timeout())
		l, err := dialListener(attempt, s.RunDir, s.bridge(), s.watch.hear)
		cancel()
		if err == nil {
			return l
		}
		if ctx.Err() == nil && time.Since(told) >= tellDownAfter {
			told = time.Now()
			w.Down(fmt.Errorf("Open vSwitch cannot be reached, so governed Pods have no network: %w: is ovs-vswitchd running, and is "+
				"there a bridge %s?", err, s.bridge()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(redialAfter):
		}
	}
}

// back puts flows on a bridge that may have been restarted, when they can be put there as they were.
func (s *OVS) back(ctx context.Context, w Watcher) {
	same, err := s.samePorts(ctx)
	if err == nil && same {
		s.mu.Lock()
		if s.wanted != nil {
			err = s.restore(ctx)
		}
		s.mu.Unlock()
	} else {
		s.mu.Lock()
		s.present, s.wanted = nil, nil // these have the wrong port numbers
		s.mu.Unlock()
	}
	if ctx.Err() == nil {
		w.Up(same && err == nil)
	}
}
