package observing

import (
	"bufio"
	"context"
	"errors"
	"io"
	"slices"
	"time"
)

// longestLine is the longest that is read of an agent's log; longer ones are no events.
const longestLine = 1 << 20

// Read gives the events of a log that are later than a time to take, which is slow for as long as it likes: the log waits. It tells the time
// of the last one.
func Read(ctx context.Context, from io.Reader, f *Filter, after time.Time, take chan<- Event) (last time.Time, err error) {
	last = after
	lines := bufio.NewReaderSize(from, 64<<10)
	for {
		line, err := wholeLine(lines)
		if e, ok := Parse(line); ok && e.Time.After(after) {
			if e.Time.After(last) {
				last = e.Time
			}
			if f.Matches(&e) {
				select {
				case take <- e:
				case <-ctx.Done():
					return last, ctx.Err()
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return last, err
		}
	}
}

// wholeLine reads a line, and gives "" for one that is too long.
func wholeLine(from *bufio.Reader) (string, error) {
	var line []byte
	long := false
	for {
		part, more, err := from.ReadLine()
		if len(line)+len(part) > longestLine {
			long, line = true, nil
		} else if !long {
			line = append(line, part...)
		}
		if err != nil || !more {
			return string(line), err
		}
	}
}

// settle is how long an event may wait for an earlier one of another node.
const settle = 500 * time.Millisecond

// Follow gives events to write in the order of their times, as far as they come within half a second of each other, until there are no more,
// or write fails.
func Follow(from <-chan Event, write func(*Event) error) error {
	var waiting []Event
	tick := time.NewTicker(settle / 2)
	defer tick.Stop()
	for {
		select {
		case e, open := <-from:
			if !open {
				return inOrder(waiting, write)
			}
			waiting = append(waiting, e)
		case now := <-tick.C:
			slices.SortStableFunc(waiting, earlier)
			due := slices.IndexFunc(waiting, func(e Event) bool { return e.Time.After(now.Add(-settle)) })
			if due < 0 {
				due = len(waiting)
			}
			if err := inOrder(waiting[:due], write); err != nil {
				return err
			}
			waiting = slices.Delete(waiting, 0, due)
		}
	}
}

// Collect gives all events to write in the order of their times: the last ones, when there are more than most. It tells how many there were
// before.
func Collect(from <-chan Event, most int, write func(*Event) error) (left int, err error) {
	var all []Event
	for e := range from {
		all = append(all, e)
		if len(all) >= 2*most {
			slices.SortStableFunc(all, earlier)
			left += len(all) - most
			all = slices.Delete(all, 0, len(all)-most)
		}
	}
	slices.SortStableFunc(all, earlier)
	if more := len(all) - most; more > 0 {
		left += more
		all = all[more:]
	}
	return left, inOrder(all, write)
}

func earlier(a, b Event) int { return a.Time.Compare(b.Time) }

func inOrder(events []Event, write func(*Event) error) error {
	slices.SortStableFunc(events, earlier)
	for i := range events {
		if err := write(&events[i]); err != nil {
			return err
		}
	}
	return nil
}
