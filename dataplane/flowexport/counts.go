package flowexport

import (
	"slices"
	"sync/atomic"
)

// counts are those of a collector's name: its senders, one after the other, have them in common.
type counts struct {
	sent, messages, bytes, reconnects atomic.Uint64
	lost                              [3]atomic.Uint64 // in the order of LossReasons
}

func (c *counts) lose(reason LossReason, n int) {
	if i := slices.Index(LossReasons, reason); i >= 0 && n > 0 {
		c.lost[i].Add(uint64(n))
	}
}

// fill writes the counts into a status.
func (c *counts) fill(s *CollectorStatus) {
	s.Sent, s.Messages, s.Bytes, s.Reconnects = c.sent.Load(), c.messages.Load(), c.bytes.Load(), c.reconnects.Load()
	s.Lost = make(map[LossReason]uint64, len(LossReasons))
	for i, reason := range LossReasons {
		s.Lost[reason] = c.lost[i].Load()
	}
}
