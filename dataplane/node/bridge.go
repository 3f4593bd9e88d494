package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
)

// BridgeHealth says how the bridge fares.
type BridgeHealth struct {
	// Down is why the switch cannot be reached; empty while it can.
	Down string
	// Restarts counts the times that the switch was gone and came back, since Start.
	Restarts int
	// Overwritten counts the times that others changed flows, groups or meters, since Start; Last was the last of them.
	Overwritten int
	Last        openflow.Mending
	// Limited is when flows were last left as others had made them for a while, since it happened too often.
	Limited time.Time
}

// QuietTime is how long nobody may have written to the bridge until nothing is said of it any more.
const QuietTime = time.Minute

// Disturbed says in a sentence what others did to the bridge of late, and "" when they did nothing.
func (h BridgeHealth) Disturbed(now time.Time) string {
	m := h.Last
	if h.Overwritten == 0 || now.Sub(m.Seen) > QuietTime {
		return ""
	}
	s := fmt.Sprintf("somebody else changes the flows of bridge %s: %d times so far, last at %s (%s)", openflow.BridgeName, h.Overwritten,
		m.Seen.UTC().Format(time.RFC3339), m.Overwritten)
	if m.Err != nil {
		s += "; they cannot be put back: " + m.Err.Error()
	} else {
		s += fmt.Sprintf("; they were put back %s later", m.Done.Sub(m.Seen).Round(time.Millisecond))
	}
	if now.Sub(h.Limited) < QuietTime {
		s += "; it happens so often that they are put back only some times a second: find who writes to that bridge, and stop it"
	}
	return s
}

// bridge is what a Node knows of its bridge's health, and what it was told to do about it.
type bridge struct {
	mu     sync.Mutex
	health BridgeHealth
	back   time.Time // when the switch was last reached again

	lost     chan struct{} // capacity 1: the switch cannot be reached
	returned chan struct{} // capacity 1: it can be reached again
}

func newBridge() *bridge {
	return &bridge{lost: make(chan struct{}, 1), returned: make(chan struct{}, 1)}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Bridge says how the node's bridge fares.
func (n *Node) Bridge() BridgeHealth {
	n.bridge.mu.Lock()
	defer n.bridge.mu.Unlock()
	return n.bridge.health
}

// watchBridge makes the bridge keep its flows, whatever others do to it, and whether or not the switch is restarted.
func (n *Node) watchBridge(ctx context.Context) {
	b := n.bridge
	first := true
	n.cfg.Switch.Watch(ctx, openflow.Watcher{
		Mended: func(m openflow.Mending) {
			b.mu.Lock()
			b.health.Overwritten++
			b.health.Last = m
			if m.Limited {
				b.health.Limited = m.Seen
			}
			b.mu.Unlock()
			n.cfg.Log.Info("Somebody else changed the flows", "what", m.Overwritten.String(), "mendedIn", m.Done.Sub(m.Seen), "error", m.Err)
		},
		Down: func(err error) {
			b.mu.Lock()
			b.health.Down = err.Error()
			b.mu.Unlock()
			n.cfg.Log.Error(err, "No switch")
			poke(b.lost)
		},
		Up: func(samePorts bool) {
			b.mu.Lock()
			b.health.Down, b.back = "", time.Now()
			n.engine.ForgetProbes() // that none came back tells nothing about the engine
			if !first {
				b.health.Restarts++
			}
			b.mu.Unlock()
			if first {
				first = false
				return
			}
			n.cfg.Log.Info("The switch was restarted", "samePorts", samePorts)
			poke(b.returned)
		},
	})
}

// recover does what a lost or restarted switch takes beyond its flows: the bridge itself, ports, and a Sync that failed meanwhile.
func (n *Node) recover(ctx context.Context) {
	for wait := time.Duration(0); ; {
		var again <-chan time.Time
		if wait > 0 {
			again = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-n.bridge.lost:
			// Should somebody have deleted the bridge, it is made again; while the switch does not run, this waits in vain.
			attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
			_ = n.cfg.Switch.EnsureBridge(attempt)
			cancel()
			continue
		case <-n.bridge.returned:
		case <-again:
		}
		wait = 0
		if err := n.reconnect(ctx); err != nil {
			n.cfg.Log.Error(err, "The restarted switch does not have everything yet")
			wait = time.Second
		}
	}
}

// reconnect makes sure of the bridge's ports, of its flows when port numbers have changed, and of what the last Sync asked for.
func (n *Node) reconnect(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inherited {
		return nil // the first Sync does all of it
	}
	if err := n.renumber(ctx); err != nil {
		return err
	}
	if n.failed && n.snapshot != nil {
		_, err := n.sync(ctx, *n.snapshot)
		return err
	}
	return n.commit(ctx, n.current.plan, n.current.numbers)
}

// renumber reads the numbers of all ports, and adds those that are missing.
func (n *Node) renumber(ctx context.Context) error {
	names := []string{attach.EngineAPort, attach.EngineBPort, attach.AgentPort}
	for _, a := range n.edges {
		names = append(names, a.names[:]...)
	}
	for _, e := range n.signatures.engines {
		names = append(names, e.portNames()...)
	}
	numbers, err := n.cfg.Switch.Ports(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(names, func(name string) bool { return numbers[name] == 0 }) {
		if err := n.cfg.Switch.EnsureBridge(ctx); err != nil {
			return err
		}
		if numbers, err = n.addEveryPort(ctx, names); err != nil {
			return err
		}
	}
	n.pairs.EngineA, n.pairs.EngineB, n.pairs.Agent = numbers[names[0]], numbers[names[1]], numbers[names[2]]
	for _, e := range n.signatures.engines {
		e.setPorts(numbers)
	}
	for pod, a := range n.edges {
		a.ports.Pod, a.ports.Uplink = numbers[a.names[0]], numbers[a.names[1]]
		if a.ports.Pod == 0 || a.ports.Uplink == 0 {
			delete(n.edges, pod) // its interfaces are gone: the next Sync sees to it
			continue
		}
		n.edges[pod] = a
	}
	return nil
}

// addEveryPort adds the ports all at once, or one by one when some cannot be added: a Pod may have gone meanwhile.
func (n *Node) addEveryPort(ctx context.Context, names []string) (map[string]uint32, error) {
	numbers, err := n.cfg.Switch.AddPorts(ctx, names...)
	if err == nil {
		return numbers, nil
	}
	var errs []error
	for i, name := range names {
		if _, err := n.cfg.Switch.AddPorts(ctx, name); err != nil && i < 3 {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return n.cfg.Switch.Ports(ctx)
}

// afterReturn is how long after a restart of the switch lost probes tell nothing about the engine.
const afterReturn = 300 * time.Millisecond

// deaf tells whether probes cannot come back for want of a switch, and for how long at least that will be so.
func (n *Node) deaf() time.Duration {
	n.bridge.mu.Lock()
	defer n.bridge.mu.Unlock()
	if n.bridge.health.Down != "" {
		return afterReturn
	}
	return afterReturn - time.Since(n.bridge.back)
}
