package rollout

import (
	"slices"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Canaries are judged by what they did of late: were it by all that they did since the load, a revision that turns bad late would be noticed
// the later, the longer it had been good.

const (
	// looksApart is how far apart the counts are that a status remembers. Each is a write that all nodes are told of.
	looksApart = 30 * time.Second
	// looksKept is how many it remembers: the oldest is from a minute ago, or a minute and a half at most.
	looksKept = 3
)

// look remembers what a canary has counted.
func look(c *v1alpha1.CanaryNode, n *Node, in Input, r *v1alpha1.RolloutStatus) {
	if !n.runs(r.Revision) {
		return
	}
	if last := len(c.Looks) - 1; last >= 0 && (n.Report.Alerts < c.Looks[last].Alerts || n.Report.Drops < c.Looks[last].Drops) {
		c.Looks = nil // it has begun to count anew
	}
	since := r.Since
	if n.Report.Loaded != nil {
		since = n.Report.Loaded
	}
	if last := len(c.Looks) - 1; last >= 0 {
		since = &c.Looks[last].At
	}
	if in.Now.Sub(since.Time) < looksApart {
		return
	}
	c.Looks = append(c.Looks, v1alpha1.CanaryLook{At: *at(in.Now), Alerts: n.Report.Alerts, Drops: n.Report.Drops})
	c.Looks = slices.Clone(c.Looks[max(0, len(c.Looks)-looksKept):])
}

// recent gives the alerts and drops of a canary in a minute, on average since the oldest look that is remembered, or since the load where that
// was later than a minute ago, over one minute at least.
func recent(c *v1alpha1.CanaryNode, n *Node, now time.Time) (alerts, drops float64) {
	if len(c.Looks) < looksKept || n.Report.Alerts < c.Looks[0].Alerts || n.Report.Drops < c.Looks[0].Drops {
		return n.perMinute(n.Report.Alerts, now), n.perMinute(n.Report.Drops, now)
	}
	first := c.Looks[0]
	minutes := max(1, now.Sub(first.At.Time).Minutes())
	return float64(n.Report.Alerts-first.Alerts) / minutes, float64(n.Report.Drops-first.Drops) / minutes
}
