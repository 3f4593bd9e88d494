package node

import (
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
)

// An engine gets a little more copies than it took when it lost some, and more again when it could take all that it got.
func TestCopyRate(t *testing.T) {
	r := &copyRate{limit: openflow.MaxCopies}
	now := time.Now()
	var l Losses
	for i, step := range []struct {
		received, ring, copies uint64 // more than before
		seconds                int
		want                   uint32
	}{
		{received: 1000, seconds: 1},
		{received: 10000, seconds: 1}, // all of it taken: no reason to change anything
		{received: 40000, ring: 35000, seconds: 1, want: 5500},
		{copies: 5000, seconds: 1},                                          // it has not counted yet
		{received: 11000, ring: 100, copies: 5000, seconds: 1, want: 6875},  // 11,000 in 2 s
		{received: 7000, copies: 40000, seconds: 1, want: 8593},             // more, as long as it can take them
		{received: 9000, ring: 4000, copies: 40000, seconds: 1, want: 5500}, // it cannot
		{received: 5000, ring: 4900, seconds: 1, want: leastCopies},         // hardly anything at all
		{received: 100, seconds: 1},                                         // nobody sends: the limit stays
	} {
		l.Received, l.Ring, l.Copies = l.Received+step.received, l.Ring+step.ring, l.Copies+step.copies
		now = now.Add(time.Duration(step.seconds) * time.Second)
		got := r.next(now, l)
		if got != step.want {
			t.Errorf("step %d: limit %d, want %d", i, got, step.want)
		}
		if got != 0 {
			r.limit = got
		}
	}
	if got := r.next(now.Add(time.Second), Losses{Received: 10, Ring: 0}); got != 0 {
		t.Errorf("after a restart of the engine the limit is %d", got)
	}
}
