package clientip

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/rawsocket"
)

// Table is the conntrack table of a node's network namespace. Its methods may be called from several goroutines.
type Table struct {
	mu     sync.Mutex
	socket *nl.SocketHandle
	// evicted is how many entries the kernel had dropped for want of room when it was last asked, and changed when that number had grown.
	evicted uint64
	changed time.Time
}

// ErrUnknown tells that the node tracks connections, but that this one's entry may have been dropped for want of room: nothing tells
// who the client is.
var ErrUnknown = errors.New("the node's conntrack has no room, and does not know the connection: " +
	"raise net.netfilter.nf_conntrack_max, or see who opens so many")

// answerTime bounds the wait for the kernel's answer, which comes at once.
const answerTime = 2 * time.Second

// OpenTable opens the table of a network namespace; "" is the caller's own. It needs CAP_NET_ADMIN.
func OpenTable(netnsPath string) (*Table, error) {
	t := &Table{socket: &nl.SocketHandle{}}
	err := rawsocket.In(netnsPath, func() (err error) {
		t.socket.Socket, err = nl.Subscribe(unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot ask the node's conntrack: %w", err)
	}
	wait := unix.NsecToTimeval(int64(answerTime))
	if err = t.socket.Socket.SetReceiveTimeout(&wait); err == nil {
		t.evicted, err = t.evictions()
	}
	if err != nil {
		t.Close()
		return nil, fmt.Errorf("cannot ask the node's conntrack (needs CAP_NET_ADMIN): %w", err)
	}
	return t, nil
}

// Close ends the table's socket.
func (t *Table) Close() { t.socket.Close() }

// Client gives the address and port from which a connection was opened, of which the packet was seen with the source that it has
// now: the node's, where the node has translated it. It is that source where the node has not.
func (t *Table) Client(c Connection) (netip.AddrPort, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// After both translations the entry's tuple of replies is that of answers to this packet.
	answers := tuple{c.Protocol, c.Source, c.Destination}.reversed()
	requests, replies, err := t.get(answers)
	switch {
	case errors.Is(err, unix.ENOENT):
		return c.Source, t.missed()
	case err != nil:
		return netip.AddrPort{}, fmt.Errorf("cannot ask the node's conntrack: %w", err)
	case replies != answers:
		return c.Source, nil // the packet is itself an answer
	}
	return requests.source, nil
}

// SentTo gives where the client sent a connection, of which a packet was seen with the source and destination that it has now: to the
// Service, where the node has translated it. It is false where the node has not, or does not know the connection any more.
func (t *Table) SentTo(c Connection) (netip.AddrPort, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	answers := tuple{c.Protocol, c.Source, c.Destination}.reversed()
	requests, replies, err := t.get(answers)
	if err != nil || replies != answers || requests.destination == c.Destination {
		return netip.AddrPort{}, false
	}
	return requests.destination, true
}

// Behind gives the endpoint that the node has chosen for a connection as its client sends it. It is false where the node has not translated
// its destination, or does not know the connection any more.
func (t *Table) Behind(c Connection) (netip.AddrPort, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sent := tuple{c.Protocol, c.Source, c.Destination}
	requests, replies, err := t.get(sent)
	if err != nil || requests != sent || replies.source == c.Destination {
		return netip.AddrPort{}, false
	}
	return replies.source, true
}

// evictionTime is how long after the kernel dropped entries for want of room a connection without one may be any.
const evictionTime = 2 * time.Second

// missed judges a connection without an entry. Without one nothing was translated: the packet is the node's own, on a node that does
// not track connections, or not these. Only where entries were dropped just now it may be another's.
func (t *Table) missed() error {
	evicted, err := t.evictions()
	if err != nil {
		return err
	}
	if evicted != t.evicted {
		t.evicted, t.changed = evicted, time.Now()
	}
	if time.Since(t.changed) < evictionTime {
		return ErrUnknown
	}
	return nil
}
