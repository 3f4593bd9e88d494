package openflow

import "time"

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
