package node

import (
	"context"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
)

// An engine that detects loses the copies that it has no time for, and each has cost the switch as much as sending a packet on, which the
// Pods' own packets lack then. So the switch makes only a little more copies than the engine takes.

const (
	// copyRatePeriod is how often engines are asked: they count every second.
	copyRatePeriod = time.Second
	// leastCopies is the least that an engine's limit may be, a second.
	leastCopies = 1000
	// An engine that loses copies gets copiesBeyond times of what it took, and one that loses none while its meter drops some gets
	// copiesMore times its limit: it may be able to take more.
	copiesBeyond, copiesMore = 1.1, 1.25
	// copiesLost is the part of what reaches an engine that it may lose without having its limit changed.
	copiesLost = 0.02
	// copiesChange is the part by which a limit must change for it to be worth the while.
	copiesChange = 0.1
)

// copyRate is the limit of one engine, and what was counted last.
type copyRate struct {
	engine *signatureEngine
	limit  uint32
	at     time.Time
	last   Losses
}

// next works out the limit, a second, from what was counted until now; 0 leaves it as it is.
func (r *copyRate) next(now time.Time, l Losses) uint32 {
	before := *r
	if l.Received == before.last.Received && !before.at.IsZero() {
		return 0 // it has not counted again, or there was nothing
	}
	r.at, r.last = now, l
	if before.at.IsZero() || l.Received < before.last.Received || l.Ring < before.last.Ring {
		return 0 // the first time, or it was started again
	}
	received, lost := float64(l.Received-before.last.Received), float64(l.Ring-before.last.Ring)
	took := (received - lost) / now.Sub(before.at).Seconds()
	limit := r.limit
	switch {
	case lost > copiesLost*received:
		limit = min(uint32(max(leastCopies, copiesBeyond*took)), r.limit)
	case l.Copies > before.last.Copies:
		limit = uint32(min(openflow.MaxCopies, copiesMore*float64(r.limit)))
	}
	if change := float64(limit) - float64(r.limit); max(change, -change) < copiesChange*float64(r.limit) {
		return 0
	}
	return limit
}

// limitCopies has the switch make as many copies as the engines that detect can take, until ctx ends.
func (n *Node) limitCopies(ctx context.Context) {
	rates := map[uint8]*copyRate{}
	tick := time.NewTicker(copyRatePeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n.limitCopiesOnce(ctx, rates)
	}
}

func (n *Node) limitCopiesOnce(ctx context.Context, rates map[uint8]*copyRate) {
	var detecting []startedSignature
	for _, e := range n.startedSignatures() {
		if e.mode != v1alpha1.InspectionPrevent {
			detecting = append(detecting, e)
		}
	}
	if len(detecting) == 0 {
		return
	}
	ask, cancel := context.WithTimeout(ctx, copyRatePeriod)
	defer cancel()
	copies, err := n.cfg.Switch.CopiesDropped(ask)
	if err != nil {
		return // the switch is away
	}
	for _, e := range detecting {
		r := rates[e.slot]
		if r == nil || r.engine != e.signatureEngine {
			if r != nil && n.cfg.Switch.LimitCopies(ctx, e.slot, openflow.MaxCopies) != nil {
				continue // its meter is not there yet
			}
			r = &copyRate{engine: e.signatureEngine, limit: openflow.MaxCopies}
			rates[e.slot] = r
		}
		counters, err := e.engine.Counters(ask)
		if err != nil {
			continue // it starts, or loads rules
		}
		l := Losses{Copies: copies[e.slot]}
		l.Received, l.Ring = captured(counters)
		limit := r.next(time.Now(), l)
		if limit == 0 {
			continue
		}
		if err := n.cfg.Switch.LimitCopies(ctx, e.slot, limit); err != nil {
			n.cfg.Log.Error(err, "A signature engine may get more copies than it can take", "slot", e.slot)
			continue
		}
		r.limit = limit
	}
}
