package node

import (
	"context"
	"fmt"
	"time"
)

// signaturesInspect tells whether an engine that prevents inspects, and if so notes which process it is: connections that were open
// before that one are told by it, as those that are older than the engine of policies are (see noteEngine).
func (n *Node) signaturesInspect(e *signatureEngine) bool {
	s := e.engine.Status()
	if !s.Health.Healthy || s.PID == 0 {
		return false
	}
	e.ports.Process = n.ledger.SignatureProcess(e.slot, fmt.Sprintf("%d since %s", s.PID, s.StartedAt.UTC().Format(time.RFC3339Nano)))
	if err := n.ledger.Save(); err != nil {
		n.cfg.Log.Error(err, "Cannot write down which process a signature engine is", "slot", e.slot)
	}
	return true
}

// beforeSignatures sees to it that no flow leads to an engine that prevents when a process is about to start, as beforeEngine does.
func (n *Node) beforeSignatures(ctx context.Context, e *signatureEngine) {
	n.untilLocked(ctx, e.asks, func(ctx context.Context) bool {
		return n.turnSignatures(ctx, e, e.ports, false, "another one is about to start")
	})
}
