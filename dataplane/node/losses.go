package node

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
)

// Losses says how much of what a signature engine should have seen it has not. All counts are since it was started last.
type Losses struct {
	// Copies are those that its meter dropped, since there were too many.
	Copies uint64
	// Received is how many packets it took in, and Ring how many the kernel dropped since it did not take them in time. Of an engine
	// that prevents, these are packets of Pods, which are sent again.
	Received, Ring uint64
	// Alerts are those that nobody had time for, and Records what it wrote that made no sense.
	Alerts, Records uint64
}

// SignatureLosses reads the losses of the signature engines, by profile. An engine that does not answer is left out, and the error tells.
func (n *Node) SignatureLosses(ctx context.Context) (map[string]Losses, error) {
	engines := n.startedSignatures()
	if len(engines) == 0 {
		return nil, nil
	}
	copies, err := n.cfg.Switch.CopiesDropped(ctx)
	errs := []error{err}
	all := make(map[string]Losses, len(engines))
	for _, key := range slices.Sorted(maps.Keys(engines)) {
		e := engines[key]
		counters, err := e.engine.Counters(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l := Losses{Copies: copies[e.slot], Alerts: e.lost.Load(), Records: e.bad.Load()}
		l.Received, l.Ring = captured(counters)
		all[key] = l
	}
	return all, errors.Join(errs...)
}

// startedSignature is a signature engine as it is without the lock.
type startedSignature struct {
	*signatureEngine
	engine *engine.Engine
}

// startedSignatures are those that can be asked, by profile.
func (n *Node) startedSignatures() map[string]startedSignature {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := map[string]startedSignature{}
	for key, e := range n.signatures.engines {
		if !e.started.IsZero() {
			all[key] = startedSignature{e, e.engine}
		}
	}
	return all
}

// captured takes what AF_PACKET counts out of an engine's counters. It counts only what it has been asked for: the engine does so
// every second.
func captured(counters map[string]any) (received, dropped uint64) {
	capture, _ := counters["capture"].(map[string]any)
	number := func(name string) uint64 {
		n, _ := capture[name].(float64)
		return uint64(max(n, 0))
	}
	return number("kernel_packets"), number("kernel_drops")
}
