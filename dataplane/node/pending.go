package node

import (
	"context"
	"errors"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
)

// An engine in another container may be away for long: its image is being pulled, or its container restarts. Pods are governed
// all the same, and flows do what each policy's failurePolicy says. The rules wait.

// engineIsAway tells whether rules could not be loaded only since the engine is away.
func (n *Node) engineIsAway(err error) bool {
	var refused *engine.LoadError
	return err != nil && n.cfg.Engine.Launcher != "" && !errors.As(err, &refused) && !n.engine.Health().Healthy
}

// Waits between attempts to load rules that wait: they double while an engine runs that does not take them.
const (
	minPendingWait = 200 * time.Millisecond
	maxPendingWait = 5 * time.Second
)

// loadPending loads rules that wait as soon as an engine runs.
func (n *Node) loadPending(ctx context.Context) {
	for wait := minPendingWait; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = minPendingWait
		if !n.rulesPending.Load() || n.engine.Status().PID == 0 {
			continue
		}
		if err := n.loadNow(ctx); n.rulesPending.Load() {
			n.cfg.Log.Error(err, "The engine has come, and does not take its rules yet")
			wait = min(2*wait, maxPendingWait)
		}
	}
}

// loadNow does the last Sync again; before the first one it sees to it that there are rules that let probes through.
func (n *Node) loadNow(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.snapshot != nil {
		_, err := n.sync(ctx, *n.snapshot)
		return err
	}
	err := n.startRules(ctx)
	if err == nil {
		n.rulesPending.Store(false)
	}
	return err
}
