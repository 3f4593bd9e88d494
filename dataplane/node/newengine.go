package node

import (
	"context"
	"time"
)

// leadAwayTimeout is how long a new engine waits until no flow leads to it. It must not wait for good: the switch may be away.
const leadAwayTimeout = 2 * time.Second

// beforeEngine sees to it that no flow leads to the engine when a process is about to start. Connections that were open before must
// be told from others by the process's slot (see noteEngine), which flows do not have yet, and its threads throw away what they find
// before they are ready.
func (n *Node) beforeEngine(ctx context.Context) { n.untilLocked(ctx, nil, n.leadAway) }

// untilLocked calls a function with the lock until it returns true, for leadAwayTimeout at most. Who has the lock and takes functions from
// the channel calls it instead.
func (n *Node) untilLocked(ctx context.Context, asks chan<- func(), done func(context.Context) bool) {
	ctx, cancel := context.WithTimeout(ctx, leadAwayTimeout)
	defer cancel()
	over := make(chan bool, 1)
	attempt := func() { over <- done(ctx) }
	for {
		// Who has the lock may wait for the engine's end, and so for this to return.
		if n.mu.TryLock() {
			attempt()
			n.mu.Unlock()
		} else {
			select {
			case asks <- attempt:
			case <-ctx.Done():
				return
			case <-time.After(2 * time.Millisecond):
				continue
			}
		}
		if <-over {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (n *Node) leadAway(ctx context.Context) bool {
	if n.inherited {
		return n.leadInherited(ctx, false)
	}
	return n.turnEngine(ctx, false, "another one is about to start")
}

// doubtEngine stops leading packets to an engine that is not the one that the flows know: it ended, and a load of rules may have
// started another one meanwhile. They lead to that one when it inspects.
func (n *Node) doubtEngine(ctx context.Context) {
	if n.engineUp && !n.inherited && n.engineProcess() != n.process {
		n.turnEngine(ctx, false, "it is another one")
	}
}
