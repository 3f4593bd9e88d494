package node

import (
	"context"
	"fmt"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	suricatarules "github.com/meerkat-dev/meerkat/suricata-rules"
)

// startBridge makes the bridge and its ports to the engine and the agent.
func (n *Node) startBridge(ctx context.Context) error {
	if err := n.cfg.Switch.EnsureBridge(ctx); err != nil {
		return err
	}
	numbers, err := n.cfg.Switch.AddPorts(ctx, attach.EngineAPort, attach.EngineBPort, attach.AgentPort)
	if err != nil {
		return err
	}
	n.pairs.EngineA, n.pairs.EngineB, n.pairs.Agent = numbers[attach.EngineAPort], numbers[attach.EngineBPort], numbers[attach.AgentPort]
	present, err := n.cfg.Switch.Dump(ctx)
	if err != nil || len(present.Flows) > 0 {
		return err // an earlier run's: they hold until the first Sync
	}
	n.inherited = false // Pods of an earlier run have no network now, until the first Sync
	return n.commit(ctx, n.current.plan, n.current.numbers)
}

// startPath brings up the way through the bridge and the engine, without any Pod on it, and waits until probes come back by it.
func (n *Node) startPath(ctx context.Context) error {
	if err := n.startBridge(ctx); err != nil {
		return err
	}
	err := n.startRules(ctx)
	if err == nil {
		err = n.waitForEngine(ctx)
	}
	if n.engineIsAway(err) {
		n.cfg.Log.Error(err, "The engine is away: failurePolicy holds until it comes")
		n.rulesPending.Store(true)
		return nil
	}
	return err
}

func (n *Node) startRules(ctx context.Context) error {
	if loaded, err := n.engine.Loaded(ctx); err != nil || loaded.Rules == 0 {
		return n.load(ctx, map[uint16]suricatarules.RuleSet{})
	}
	return nil
}

// startTimeout is how long an engine may take from its start until the first probe comes back.
const startTimeout = 15 * time.Second

// waitForEngine returns once the engine inspects.
func (n *Node) waitForEngine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for !n.engine.Health().Healthy {
		if n.cfg.Engine.Launcher != "" && n.engine.Status().PID == 0 {
			return fmt.Errorf("%w: %s", errEngine, n.engine.Health().Reason) // it may take a node's whole start until it comes
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", errEngine, n.engine.Health().Reason)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// followHealth makes the flows follow the engine: while it does not inspect, they do what each policy's failurePolicy says.
func (n *Node) followHealth(ctx context.Context) {
	var later <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-n.engine.HealthChanges():
			if !ok {
				return
			}
		case <-later:
		}
		later = nil
		s := n.engine.Status()
		wait := n.deaf()
		if wait > 0 && !s.Health.Healthy && s.PID != 0 {
			later = time.After(wait) // without a switch no probe comes back
			continue
		}
		if !n.setEngine(ctx, s.Health.Healthy, s.Health.Reason) {
			later = time.After(100 * time.Millisecond)
		}
	}
}

// EngineHealth tells whether the engine inspects: it does once it is healthy and the flows lead to it.
func (n *Node) EngineHealth() engine.Health {
	h := n.engine.Health()
	if h.Healthy && !n.flowsToEngine.Load() {
		h.Healthy, h.Reason = false, "the engine is ready, and the flows do not lead to it yet"
	}
	return h
}

// noteEngine gives an engine process that has not been there before a slot of its own: connections that were open before are told by
// it, since the engine takes them up in their middle.
func (n *Node) noteEngine() error {
	process := n.engineProcess()
	if process == "" {
		return nil
	}
	n.process, n.pairs.EngineSlot = process, n.ledger.EngineSlot(process)
	return n.ledger.Save()
}

// engineProcess tells the engine's process from any other; "" when there is none.
func (n *Node) engineProcess() string {
	s := n.engine.Status()
	if s.PID == 0 {
		return ""
	}
	return fmt.Sprintf("%d since %s", s.PID, s.StartedAt.UTC().Format(time.RFC3339Nano))
}

// setEngine makes the flows take the engine for one that inspects, or does not. It returns false when the flows cannot be changed
// now: until they are, packets go to an engine that does not answer, and are lost.
func (n *Node) setEngine(ctx context.Context, up bool, reason string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.turnEngine(ctx, up, reason)
}

// turnEngine is setEngine for who has the lock.
func (n *Node) turnEngine(ctx context.Context, up bool, reason string) bool {
	was, slot := n.engineUp, n.pairs.EngineSlot
	if up {
		if n.rulesPending.Load() {
			return was // it inspects by the rules of an earlier time
		}
		if err := n.noteEngine(); err != nil {
			n.cfg.Log.Error(err, "Cannot write down which engine it is")
		}
	}
	if was == up && n.pairs.EngineSlot == slot {
		return true
	}
	n.engineUp = up
	if n.inherited {
		if !n.leadInherited(ctx, up) {
			n.engineUp, n.pairs.EngineSlot = was, slot
			return false
		}
		return true
	}
	n.cfg.Log.Info("Engine changed", "inspects", up, "reason", reason)
	if err := n.commit(ctx, n.current.plan, n.current.numbers); err != nil {
		n.engineUp, n.pairs.EngineSlot = was, slot
		n.cfg.Log.Error(err, "The flows do not follow the engine yet")
		return false
	}
	return true
}
