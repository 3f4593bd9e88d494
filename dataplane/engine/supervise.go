package engine

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/meerkat-dev/meerkat/dataplane/rawsocket"
)

// maxLog is the size at which the engine's log is emptied.
const maxLog = 8 << 20

// supervise starts the engine again whenever it ends, until the context does. One that has inspected since it was started is
// started again at once, however often that happens: waiting would only make the time without inspection longer. One that ends
// before it has inspected (its rules do not load, a packet of every connection kills it, memory is short) will most likely do so
// again, and the wait doubles each time.
func (e *Engine) supervise(ctx context.Context) {
	wait := e.cfg.Backoff
	for {
		if p := e.state.running(); p != nil {
			select {
			case <-ctx.Done():
				return
			case <-p.done:
			}
			inspected := e.state.hasInspected(p)
			if inspected {
				wait = e.cfg.Backoff
			}
			e.spoiled.Store(!inspected)
			why := fmt.Sprintf("it ended (%s)%s", p.how, lastErrors(p.said()))
			prober := e.prober.Load()
			e.state.ended(p, why, prober != nil)
			if prober != nil {
				prober.Forget()
			}
			e.log.Info("Engine ended", "pid", p.pid, "how", p.how, "restartIn", wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if isUnreachable(e.restart(ctx)) {
			wait = min(max(2*wait, minReconnect), maxReconnect) // a connection costs nothing
			continue
		}
		wait = min(2*wait, e.cfg.MaxBackoff)
	}
}

// Waits between attempts to reach a launcher.
const (
	minReconnect = 50 * time.Millisecond
	maxReconnect = time.Second
)

// restart brings the engine up, unless a Load has done so.
func (e *Engine) restart(ctx context.Context) error {
	e.beforeStart(ctx) // which may wait for a Load
	if err := e.lockRules(ctx); err != nil {
		return err
	}
	defer e.unlockRules()
	if ctx.Err() != nil || e.state.running() != nil {
		return nil
	}
	err := e.bringBack(ctx)
	if err == nil {
		e.complaint = ""
		return nil
	}
	if said := err.Error(); !isUnreachable(err) || said != e.complaint { // which may go on for hours
		e.complaint = said
		e.log.Error(err, "Cannot restart the engine")
	}
	if e.state.running() == nil {
		e.state.down(err.Error())
	}
	return err
}

// bringBack starts the engine, or takes over one that the launcher has although nothing was known of it.
func (e *Engine) bringBack(ctx context.Context) error {
	proc, err := e.runner.claim(ctx)
	if err != nil {
		return err
	}
	if proc != nil {
		return e.takeOver(ctx, proc)
	}
	e.state.restarted()
	return e.bringUp(ctx)
}

// probe runs the prober.
func (e *Engine) probe(ctx context.Context, prober *Prober) {
	if err := prober.Run(ctx); err != nil && ctx.Err() == nil {
		e.state.probes(false)
		e.log.Error(err, "No more probes", "interface", e.cfg.Agent)
	}
}

// keepAsking asks an engine that detects whether it is there: no probe comes back from it.
func (e *Engine) keepAsking(ctx context.Context) {
	tick := time.NewTicker(e.cfg.HangTimeout / 10)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p := e.state.running()
		if p == nil || e.lockRules(ctx) != nil {
			continue
		}
		alive := e.answers(ctx)
		e.unlockRules()
		if ctx.Err() == nil && e.state.running() == p {
			e.state.probes(alive)
		}
	}
}

// killHung kills an engine that lets no probe through and answers no command. Lost probes alone do not tell: the bridge may have
// no flows for them.
func (e *Engine) killHung(ctx context.Context) {
	limit := e.cfg.HangTimeout
	tick := time.NewTicker(limit / 10)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p := e.state.running()
		h := e.Health()
		if p == nil || h.Healthy || time.Since(h.Since) < limit || time.Since(p.started) < limit {
			continue
		}
		// A load keeps the command socket busy; it ends by itself.
		if e.lockRules(ctx) != nil {
			return
		}
		if !e.answers(ctx) && ctx.Err() == nil {
			e.log.Info("Killing the engine: it lets no packet through and answers no command", "pid", p.pid)
			if err := p.end(0); err != nil {
				e.log.Error(err, "Cannot kill the engine")
			}
		}
		e.unlockRules()
	}
}

// trimLog empties a log that has grown: each reload writes a line for each rule that uses a keyword the engine has doubts about.
func (e *Engine) trimLog() {
	if e.cfg.Launcher != "" {
		return // there is no file
	}
	path := paths(e.cfg.Dir).log()
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		_ = os.Truncate(path, 0)
	}
}

// wake sends a packet into the engine by each of its interfaces.
func (e *Engine) wake(wakers []*rawsocket.Socket) {
	if e.cfg.Wake != nil {
		e.cfg.Wake()
		return
	}
	for _, w := range wakers {
		_ = w.Write(wakeFrame())
	}
}

// openWakers opens the other ends of veth pairs, where they are in the same network namespace. What is sent there arrives at the
// engine's end, whatever bridge the other end is a port of. Without them a reload takes up to 0.3 s longer.
func openWakers(netns string, interfaces ...string) []*rawsocket.Socket {
	var wakers []*rawsocket.Socket
	_ = inNetns(netns, func() error {
		for _, name := range interfaces {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			peer := link.Attrs().ParentIndex
			if link.Type() != "veth" || peer == 0 || link.Attrs().NetNsID >= 0 {
				continue
			}
			if s, err := rawsocket.OpenIndex(peer, 0); err == nil {
				wakers = append(wakers, s)
			}
		}
		return nil
	})
	return wakers
}
