package clientip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-logr/logr"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/rawsocket"
)

// Resolver answers the bridge's questions. Its methods may be called from several goroutines.
type Resolver struct {
	// Netns is the path of the network namespace of the node's interfaces; "" is the caller's own.
	Netns string
	// Interface is the agent's, at which questions arrive.
	Interface string
	Log       logr.Logger

	counts [3]atomic.Uint64
	fault  atomic.Pointer[string]
}

// Counts are how many packets a Resolver was asked for.
type Counts struct {
	// Found are those whose client it found, and Own the node's own. Dropped are those of which it could not tell.
	Found, Own, Dropped uint64
}

const (
	countFound = iota
	countOwn
	countDropped
)

// Counts tells what this Resolver has done; another program's may have done the rest.
func (r *Resolver) Counts() Counts {
	return Counts{r.counts[countFound].Load(), r.counts[countOwn].Load(), r.counts[countDropped].Load()}
}

// Fault says in a sentence why the node's conntrack cannot be asked; "" when it can.
func (r *Resolver) Fault() string {
	if f := r.fault.Load(); f != nil {
		return *f
	}
	return ""
}

// Pauses between attempts to take over, and after a failure.
const (
	turnPause  = 200 * time.Millisecond
	faultPause = time.Second
)

// readBuffer is how many bytes of questions may wait: some thousand.
const readBuffer = 4 << 20

// Run answers until the context ends. While another program's Resolver works in this network namespace, or there is no such interface,
// it waits.
func (r *Resolver) Run(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.serve(ctx)
		pause := faultPause
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errNotNow):
			pause, err = turnPause, nil
		}
		r.note(err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (r *Resolver) note(err error) {
	was := r.Fault()
	if err == nil {
		r.fault.Store(nil)
		return
	}
	text := err.Error()
	r.fault.Store(&text)
	if text != was {
		r.Log.Error(err, "Clients behind the node's address cannot be told from the node itself")
	}
}

var errNotNow = errors.New("another program answers, or nobody asks yet")

// turn makes sure that one Resolver works at a time. The kernel ends the claim with the program.
func (r *Resolver) turn() (net.Listener, error) {
	var l net.Listener
	err := rawsocket.In(r.Netns, func() (err error) {
		l, err = net.Listen("unix", "@meerkat-client-address") //nolint:noctx // it does not wait
		return err
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, errNotNow
	}
	return l, err
}

func (r *Resolver) serve(ctx context.Context) error {
	turn, err := r.turn()
	if err != nil {
		return err
	}
	defer turn.Close() //nolint:errcheck // nothing depends on it
	if err := rawsocket.In(r.Netns, func() error {
		_, err := net.InterfaceByName(r.Interface)
		return err
	}); err != nil {
		return errNotNow
	}
	table, err := OpenTable(r.Netns)
	if err != nil {
		return err
	}
	defer table.Close()
	socket, err := rawsocket.Open(r.Netns, r.Interface)
	if err != nil {
		return err
	}
	if err := errors.Join(socket.OnlyPriority(openflow.ClientAsked), socket.SetReadBuffer(readBuffer)); err != nil {
		return errors.Join(fmt.Errorf("cannot choose what to read from %s: %w", r.Interface, err), socket.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer stop()
	r.note(nil)
	buf := make([]byte, 64<<10)
	for {
		f, err := socket.Read(buf)
		if err != nil {
			return errors.Join(fmt.Errorf("cannot read from %s: %w", r.Interface, err), closeOpen(socket))
		}
		if answer := r.answer(table, f); answer != nil {
			_ = socket.Write(answer) // what finds the interface's queue full is lost, as any packet may be
		}
	}
}

func closeOpen(s *rawsocket.Socket) error {
	if err := s.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// answer makes the frame that goes back; nil when the packet is dropped.
func (r *Resolver) answer(table *Table, f rawsocket.Frame) []byte {
	if f.Priority != openflow.ClientAsked {
		return nil
	}
	p, ok := parse(f.Data)
	if !ok {
		r.counts[countDropped].Add(1)
		return nil
	}
	client, err := table.Client(p.Connection)
	switch {
	case err != nil:
		r.counts[countDropped].Add(1)
		r.note(err)
		return nil
	case r.fault.Load() != nil:
		r.note(nil)
	}
	switch {
	case client.Addr() == p.Source.Addr():
		r.counts[countOwn].Add(1)
		return rawsocket.Tagged(f.Data, f.VLAN, openflow.ClientNode)
	case client.Addr().Is4() != p.Source.Addr().Is4():
		r.counts[countDropped].Add(1) // NAT64: no policy's address can be compared
		return nil
	}
	p.setSource(client.Addr())
	r.counts[countFound].Add(1)
	return rawsocket.Tagged(f.Data, f.VLAN, openflow.ClientFound)
}
