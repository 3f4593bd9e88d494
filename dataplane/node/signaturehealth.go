package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// followSignatures makes the flows follow an engine that prevents: while it does not inspect, they do what its failure policy says.
func (n *Node) followSignatures(ctx context.Context, e *signatureEngine, made *engine.Engine) {
	if e.mode != v1alpha1.InspectionPrevent {
		return
	}
	var later <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-made.HealthChanges():
			if !ok {
				return
			}
		case <-later:
		}
		later = nil
		s := made.Status()
		if wait := n.deaf(); wait > 0 && !s.Health.Healthy && s.PID != 0 {
			later = time.After(wait) // without a switch no probe comes back
			continue
		}
		if !n.setSignatures(ctx, e) {
			later = time.After(100 * time.Millisecond)
		}
	}
}

// setSignatures makes the flows take the engine for what it is now. It returns false when they cannot be changed.
func (n *Node) setSignatures(ctx context.Context, e *signatureEngine) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.engine == nil {
		return true // it is gone
	}
	h, before := e.engine.Health(), e.ports
	return n.turnSignatures(ctx, e, before, (e.loaded.hash != "" || n.inherited) && n.signaturesInspect(e), h.Reason)
}

// turnSignatures is setSignatures for who has the lock and knows what the engine is now; before are its ports as the flows have them.
func (n *Node) turnSignatures(ctx context.Context, e *signatureEngine, before openflow.SignaturePorts, up bool, reason string) bool {
	e.ports.Up = up
	if e.ports == before || n.signatures.engines[e.key] != e {
		return true
	}
	n.cfg.Log.Info("Signature engine changed", "slot", e.slot, "inspects", up, "reason", reason)
	if n.inherited {
		if !n.applyInherited(ctx) {
			e.ports = before
			return false
		}
		return true
	}
	if err := n.commit(ctx, n.current.plan, n.current.numbers); err != nil {
		e.ports = before
		n.cfg.Log.Error(err, "The flows do not follow the signature engine yet")
		return false
	}
	return true
}

// awaitSignatures waits for a short while until the engines that prevent inspect, so that a Sync usually ends with everything in force. It is
// told of the flows by themselves: probes go by them. It gives what does not inspect yet.
func (n *Node) awaitSignatures(ctx context.Context, p *plan.NodePlan) (failed map[string]error, changed bool) {
	failed = map[string]error{}
	until := time.Now().Add(loadPatience)
	for i := range p.Profiles {
		e := n.signatures.engines[p.Profiles[i].Key]
		if e == nil || e.started.IsZero() || e.mode != v1alpha1.InspectionPrevent || e.loaded.hash == "" {
			continue
		}
		for e.isComing() && time.Now().Before(until) && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		if h := e.engine.Health(); !h.Healthy {
			failed[e.key] = fmt.Errorf("%w: %s", errEngine, h.Reason)
		}
		before := e.ports
		e.ports.Up = n.signaturesInspect(e)
		changed = changed || e.ports != before
	}
	return failed, changed
}

// isComing tells whether an engine that prevents has started of late, and no probe has come back from it yet.
func (e *signatureEngine) isComing() bool {
	return !e.engine.Health().Healthy && time.Since(e.started) < startTimeout && !e.ports.Up
}

// SyncAll is Sync for who wants everything in force when it returns, or to know why it is not, however long engines take to load rules.
func (n *Node) SyncAll(ctx context.Context, s plan.Snapshot) (*Report, error) {
	for {
		r, err := n.Sync(ctx, s)
		done, coming := n.unsettled()
		var soon <-chan time.Time
		switch {
		case coming:
			soon = time.After(20 * time.Millisecond)
		case done == nil:
			return r, err
		}
		select {
		case <-done:
		case <-soon:
		case <-ctx.Done():
			return r, errors.Join(err, context.Cause(ctx))
		}
	}
}

// unsettled looks for a signature engine of which it is not known yet whether it does what it should: it gives the end of a load, or tells
// that an engine has just started; nil and false when there is none.
func (n *Node) unsettled() (loaded <-chan struct{}, coming bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.signatures.engines {
		if e.loading != nil {
			return e.loading.done, false
		}
		coming = coming || e.mode == v1alpha1.InspectionPrevent && !e.started.IsZero() && e.loaded.hash != "" && e.isComing() && e.engine.Status().PID != 0
	}
	return nil, coming
}
