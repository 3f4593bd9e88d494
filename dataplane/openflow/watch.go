package openflow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
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
	since    time.Time     // when the first of seen was told; zero: nothing is to be mended
	wake     chan struct{} // capacity 1
}

// hear takes in what the switch tells. Whether it was our own doing is found out later.
func (w *watch) hear(o Overwritten) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.add(o)
	if w.since.IsZero() {
		w.since = time.Now()
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// settle forgets what was done to the bridge before the call: it is about to be read as a whole. What is done after it stays.
func (w *watch) settle(ctx context.Context) {
	if l := w.current(); l != nil && l.settle(ctx) != nil {
		return // the connection is lost: with the next one everything is read anyway
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen, w.since = Overwritten{}, time.Time{}
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
	s.watch.wake = make(chan struct{}, 1)
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

// mendUntilLost undoes what others do until the connection is lost. A switch that holds the connection and does not answer, be
// it that it hangs or that it has no database, is told like one that is gone.
func (s *OVS) mendUntilLost(ctx context.Context, l *listener, limit *bucket, w Watcher) {
	beat := time.NewTicker(beatPeriod)
	defer beat.Stop()
	for silent := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-l.over:
			return
		case <-beat.C:
			attempt, cancel := context.WithTimeout(ctx, beatPeriod)
			err := l.settle(attempt)
			cancel()
			switch {
			case err != nil && ctx.Err() == nil:
				silent = true
				w.Down(fmt.Errorf("Open vSwitch does not answer, so governed Pods may have no network: %w", errors.Join(err, s.database())))
			case silent:
				silent = false
				s.back(ctx, w)
			}
			continue
		case <-s.watch.wake:
		}
		for again := true; again; {
			var m Mending
			var any bool
			wait := limit.wait(time.Now())
			if wait > 0 {
				select {
				case <-ctx.Done():
					return
				case <-l.over:
					return
				case <-time.After(wait):
				}
			}
			if m, any = s.mend(ctx); !any || ctx.Err() != nil {
				break
			}
			limit.take()
			m.Limited = wait > 0
			again = m.Err != nil
			w.Mended(m)
		}
	}
}

// mend puts the bridge right if others have changed it. Nothing is read first, since that would cost time: the bundle removes
// everything and puts back what is wanted, which takes hold at once.
func (s *OVS) mend(ctx context.Context) (m Mending, changed bool) {
	s.mu.Lock() // an Apply that is under way has been told of its own changes when it ends
	defer s.mu.Unlock()
	m.Overwritten, m.Seen = s.watch.pending()
	if m.Seen.IsZero() || s.wanted == nil {
		return m, false
	}
	for range 3 { // the other may not be through with what it does
		drift, done, err := s.replace(ctx, m.Meters > 0, s.putBackUntilQuiet)
		if m.Done = done; err == nil && drift.Count() == 0 {
			return m, true
		}
	}
	s.present = nil
	m.Err = s.apply(ctx, s.wanted)
	m.Done = time.Now()
	return m, true
}

// restore gives a restarted switch what is wanted.
func (s *OVS) restore(ctx context.Context) error {
	if drift, _, err := s.replace(ctx, true, func(ctx context.Context) error { return s.putBack(ctx, false) }); err == nil && drift.Count() == 0 {
		return nil
	}
	s.present = nil
	return s.apply(ctx, s.wanted)
}

// replace removes everything from the bridge, puts back what is wanted, and reads the bridge back.
func (s *OVS) replace(ctx context.Context, meter bool, put func(context.Context) error) (drift Differences, done time.Time, err error) {
	if meter {
		err = s.ensureMeter(ctx)
	}
	if err == nil {
		err = put(ctx)
	}
	if isNoMeter(err) { // the switch does not tell of a meter's deletion, but of that of its flows
		if err = s.ensureMeter(ctx); err == nil {
			err = s.putBack(ctx, false)
		}
	}
	done = time.Now()
	if err == nil {
		drift, err = s.compare(ctx, s.wanted)
	}
	return drift, done, err
}

// quietTime is how long nobody else may have changed anything until connections are judged again.
const quietTime = 10 * time.Millisecond

// putBackUntilQuiet puts back what is wanted as long as the other goes on meanwhile: that takes less time than reading the bridge. The
// other may be replacing flows one by one. What is put back in between makes no sense together with what is deleted next: a Pod's
// port would be there again, and a moment later the Service's flow not, by which its connections are judged. So until the other is
// through, no connection is judged: connections that are open go on, and new ones wait. What is sent by the listener's own
// connection is told in short, without counts, so that all that is counted is the other's.
func (s *OVS) putBackUntilQuiet(ctx context.Context) error {
	const most = 20
	for range most {
		s.watch.take()
		if err := s.putBack(ctx, true); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(quietTime):
		}
		l := s.watch.current()
		if l == nil || !s.replayable() || l.settle(ctx) != nil || s.watch.take() == (Overwritten{}) {
			break
		}
	}
	return s.putBack(ctx, false)
}

// replayable tells whether what is wanted has been recorded.
func (s *OVS) replayable() bool { return s.recorded != nil && s.recorded.bundle == s.wanted }

// putBack commits the bundle that makes any bridge hold what is wanted; held keeps connections from being judged besides.
func (s *OVS) putBack(ctx context.Context, held bool) error {
	if l := s.watch.current(); l != nil && s.replayable() {
		m := s.recorded.plain
		if held {
			m = s.recorded.held
		}
		if l.replay(ctx, m) == nil {
			return nil
		}
	}
	return s.bundle(ctx, replacement(s.wanted, held))
}

// replacement is the text of a bundle that makes any bridge hold b.
func replacement(b *Bundle, held bool) string {
	var text strings.Builder
	text.WriteString("flow delete\ngroup delete\n")
	for i := range b.Groups {
		text.WriteString("group add " + b.Groups[i].String() + "\n")
	}
	for i := range b.Flows {
		text.WriteString("flow add " + b.Flows[i].String() + "\n")
	}
	if held {
		fmt.Fprintf(&text, "flow add table=%d,priority=%d,cookie=%#x,actions=drop\n", uint8(tableCommit), priorityHold, cookie(featurePipeline, 0))
	}
	return text.String()
}

// bucket bounds how often something is done.
type bucket struct {
	tokens float64
	last   time.Time
}

// wait says how long to wait until it may be done.
func (b *bucket) wait(now time.Time) time.Duration {
	b.tokens = min(mendingBurst, b.tokens+float64(now.Sub(b.last))/float64(mendingPeriod))
	b.last = now
	if b.tokens >= 1 {
		return 0
	}
	return time.Duration((1 - b.tokens) * float64(mendingPeriod))
}

func (b *bucket) take() { b.tokens-- }
