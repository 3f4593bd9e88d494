package openflow

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// mendUntilLost undoes what others do until the connection is lost. A switch that holds the connection and does not answer, be
// it that it hangs or that it has no database, is told like one that is gone.
func (s *OVS) mendUntilLost(ctx context.Context, l *listener, limit *bucket, w Watcher) {
	beat := time.NewTicker(beatPeriod)
	defer beat.Stop()
	quiet := time.NewTimer(stageAfter)
	defer quiet.Stop()
	for silent := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-l.over:
			return
		case <-s.watch.recorded:
			s.stage(l)
			continue
		case <-quiet.C:
			s.stage(l)
			continue
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
			default:
				s.stage(l)
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
			quiet.Reset(stageAfter)
		}
	}
}

// mend puts the bridge right if others have changed it. Nothing is read first, since that would cost time: the bundle removes
// everything and puts back what is wanted, which takes hold at once. As a rule the switch has that bundle already (see staged).
func (s *OVS) mend(ctx context.Context) (m Mending, changed bool) {
	s.mu.Lock() // an Apply that is under way has been told of its own changes when it ends
	defer s.mu.Unlock()
	m.Overwritten, m.Seen = s.watch.pending()
	if m.Seen.IsZero() || s.wanted == nil {
		return m, false
	}
	meters := m.Meters > 0
	m.Overwritten = Overwritten{}
	s.watch.countUndone()
	for range 3 { // the other may not be through with what it does
		drift, done, err := s.replace(ctx, meters, s.putBackUntilQuiet)
		m.add(s.watch.countUndone())
		if m.Done = done; err == nil && drift.Count() == 0 {
			return m, true
		}
		if errors.Is(err, errOverwritten) {
			return m, true // the next time has begun
		}
	}
	s.present = nil
	m.Err = s.apply(ctx, s.wanted)
	m.Done = time.Now()
	return m, true
}

// restore gives a restarted switch what is wanted.
func (s *OVS) restore(ctx context.Context) error {
	drift, _, err := s.replace(ctx, true, func(ctx context.Context) error { return s.putBack(ctx, false) })
	if err == nil && drift.Count() == 0 || errors.Is(err, errOverwritten) { // that is mended next
		return nil
	}
	s.present = nil
	return s.apply(ctx, s.wanted)
}

// replace removes everything from the bridge, puts back what is wanted, and reads the bridge back. When others write meanwhile, that
// is left: it can take longer than all of the rest, and what they write is to be mended first. The error is errOverwritten then.
func (s *OVS) replace(ctx context.Context, meter bool, put func(context.Context) error) (drift Differences, done time.Time, err error) {
	if meter {
		err = s.remakeMeters(ctx)
	}
	if err == nil {
		err = put(ctx)
	}
	if noMeter(err) { // the switch does not tell of a meter's deletion, but of that of its flows
		if err = s.remakeMeters(ctx); err == nil {
			err = put(ctx)
		}
	}
	done = time.Now()
	if err != nil {
		return drift, done, err
	}
	s.present = nil
	s.watch.settle(ctx)
	reading, end := s.watch.untilOverwritten(ctx)
	defer end()
	present, err := s.Dump(reading)
	if err != nil {
		return drift, done, err
	}
	s.present = present
	return Drift(s.wanted, present), done, nil
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
		if err := s.putBack(ctx, true); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(quietTime):
		}
		l := s.watch.current()
		if l == nil || !s.replayable() || l.settle(ctx) != nil {
			break
		}
		// What is held as it is wanted has but the hold to lose. Should the other write meanwhile, it is told, and mended next.
		if s.watch.take() == (Overwritten{}) && l.replay(ctx, s.recorded.release, nil) == nil {
			return nil
		}
	}
	return s.putBack(ctx, false)
}

// replayable tells whether what is wanted has been recorded.
func (s *OVS) replayable() bool { return s.recorded != nil && s.recorded.bundle == s.wanted }

// putBack commits the bundle that makes any bridge hold what is wanted; held keeps connections from being judged besides. What was done to
// the bridge before, and heard of only now, is forgotten: it was undone with the rest.
func (s *OVS) putBack(ctx context.Context, held bool) error {
	undone := func() { s.watch.take() }
	err := errNotRecorded
	if l := s.watch.current(); l != nil && s.replayable() {
		m := s.recorded.plain
		if held {
			m = s.recorded.held
			err = l.commitStaged(ctx, s.recorded, undone)
		}
		if err != nil && !noMeter(err) {
			err = l.replay(ctx, m, undone)
		}
	}
	if err != nil && !noMeter(err) {
		undone()
		err = s.bundle(ctx, replacement(s.wanted, held))
		s.watch.settle(ctx) // what ovs-ofctl does is told like what others do
	}
	return err
}

var errNotRecorded = errors.New("what is wanted has not been recorded")

// stage has the switch hold ready what it takes to put back what is wanted, so that it has but to be committed.
func (s *OVS) stage(l *listener) {
	if !s.mu.TryLock() { // an Apply is under way
		return
	}
	r, ok := s.recorded, s.replayable()
	s.mu.Unlock()
	if ok {
		_ = l.stage(r) // flows are put back without, too
	}
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
		fmt.Fprintf(&text, "flow add %s,cookie=%#x,actions=drop\n", hold(), cookie(featurePipeline, 0))
	}
	return text.String()
}

// hold is the flow that keeps connections from being judged, without what it does.
func hold() string { return fmt.Sprintf("table=%d,priority=%d", uint8(tableCommit), priorityHold) }
