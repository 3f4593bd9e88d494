package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Of load. For each address, these are sent at once; all together that is some 70 requests a second.
const (
	keptConnections = 2 // stay open, and send allowed requests
	traps           = 5 // send an allowed request, wait, and then a forbidden one on the same connection

	keptPace  = 50 * time.Millisecond  // between two requests of a kept connection
	freshPace = 100 * time.Millisecond // between two new connections, whatever becomes of them
	longest   = 2 * time.Second        // that a trap waits before its forbidden request

	patience = 10 * time.Second       // for an allowed request; then it counts as lost
	brief    = 300 * time.Millisecond // for a forbidden request on a new connection
	trapped  = 5 * time.Second        // for one on a connection that was open before: TCP sends it again meanwhile
)

// Kinds of requests.
const (
	kept        = "kept"         // allowed, on a connection that stays open
	fresh       = "fresh"        // allowed, on a connection of its own
	forbidden   = "forbidden"    // forbidden, on a connection of its own
	trap        = "trap"         // forbidden, on a connection that an allowed request has opened
	keptOpening = "kept-opening" // opens a kept connection; nothing is said of it when it works
)

// Outcomes of requests.
const (
	answered = "answered"
	reset    = "reset"    // the connection was closed by the other end, or by somebody in its name
	lost     = "lost"     // no answer within patience
	refused  = "refused"  // the other end, or somebody in its name, does not take the connection
	unopened = "unopened" // no connection within patience
)

// load sends requests to each address until ctx ends.
type load struct {
	allowed, denied string // requests, "METHOD PATH"
	records         records
	ports           atomic.Int64 // how many connections for forbidden requests there have been
	wg              sync.WaitGroup
}

// forbiddenPort gives the port of the next connection for a forbidden request. It is none that the kernel chooses: for some minutes,
// whoever comes from the port of a connection that was denied is refused.
func (l *load) forbiddenPort() int {
	const first, count = 10000, 22000
	return first + int(l.ports.Add(1)%count)
}

func (l *load) run(ctx context.Context, addresses []string) {
	for i, address := range addresses {
		for c := range keptConnections {
			l.wg.Go(func() { l.hold(ctx, i, c, address) })
		}
		for range traps {
			l.wg.Go(func() { l.trap(ctx, i, address) })
		}
		l.wg.Go(func() { l.steadily(ctx, i, fresh, address, l.allowed, patience) })
		l.wg.Go(func() { l.steadily(ctx, i, forbidden, address, l.denied, brief) })
	}
	l.wg.Wait()
}

// hold sends allowed requests on one connection as long as it lasts, and then on another.
func (l *load) hold(ctx context.Context, target, number int, address string) {
	for ; ctx.Err() == nil; pause(ctx, keptPace) {
		c := &client{address: address, timeout: patience}
		began := time.Now()
		if err := c.open(ctx); err != nil {
			l.note(ctx, c, record{kind: keptOpening, target: target, number: number, sent: began}, err)
			continue
		}
		for err := error(nil); err == nil && ctx.Err() == nil; pause(ctx, keptPace) {
			sent := time.Now()
			_, err = c.try(ctx, l.allowed)
			l.note(ctx, c, record{kind: kept, target: target, number: number, sent: sent}, err)
		}
		c.close()
	}
}

// steadily opens connections at a pace, whatever becomes of those before, and sends one request on each.
func (l *load) steadily(ctx context.Context, target int, kind, address, line string, patience time.Duration) {
	tick := time.NewTicker(freshPace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.wg.Go(func() {
			c := &client{address: address, timeout: patience}
			if kind == forbidden {
				c.port = l.forbiddenPort()
			}
			defer c.close()
			began := time.Now()
			_, err := c.try(ctx, line)
			l.note(ctx, c, record{kind: kind, target: target, sent: began}, err)
		})
	}
}

// trap sends forbidden requests on connections that are open already, some of them for a long time.
func (l *load) trap(ctx context.Context, target int, address string) {
	for ctx.Err() == nil {
		c := &client{address: address, timeout: trapped, port: l.forbiddenPort()}
		if _, err := c.try(ctx, l.allowed); err == nil {
			pause(ctx, time.Duration(rand.Int64N(int64(longest))))
			sent := time.Now()
			_, err = c.try(ctx, l.denied)
			l.note(ctx, c, record{kind: trap, target: target, sent: sent}, err)
		} else {
			pause(ctx, freshPace)
		}
		c.close()
	}
}

func (l *load) note(ctx context.Context, c *client, r record, err error) {
	if ctx.Err() == nil {
		r.took, r.outcome, r.port = time.Since(r.sent), outcome(err), c.from
		l.records.add(r)
	}
}

func outcome(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return answered
	case errors.Is(err, errUnopened) && errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case errors.Is(err, errUnopened) && errors.As(err, &timeout) && timeout.Timeout():
		return unopened
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return reset
	case errors.As(err, &timeout) && timeout.Timeout():
		return lost
	}
	return strings.ReplaceAll(err.Error(), " ", "_")
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
