package node

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/clientip"
)

// clients looks up, for events, who hides behind the node's own addresses.
type clients struct {
	mu    sync.Mutex
	table *clientip.Table
	next  time.Time // after a failure
	own   []netip.Addr
}

// clientsPause is how soon after a failure the node's conntrack is tried again.
const clientsPause = 5 * time.Second

// follow tells the node's own addresses.
func (c *clients) follow(own []netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own = own
}

// clientBehind gives the client of a connection whose source is an address of the node, when conntrack still knows it.
func (n *Node) clientBehind(source, server netip.AddrPort, protocol string) netip.AddrPort {
	number, known := map[string]uint8{"TCP": unix.IPPROTO_TCP, "UDP": unix.IPPROTO_UDP, "SCTP": unix.IPPROTO_SCTP}[protocol]
	c := &n.clients
	c.mu.Lock()
	defer c.mu.Unlock()
	if !known || !slices.Contains(c.own, source.Addr()) || time.Now().Before(c.next) {
		return netip.AddrPort{}
	}
	if c.table == nil {
		var err error
		if c.table, err = clientip.OpenTable(n.cfg.Netns); err != nil {
			c.next = time.Now().Add(clientsPause)
			return netip.AddrPort{}
		}
	}
	client, err := c.table.Client(clientip.Connection{Protocol: number, Source: source, Destination: server})
	if err != nil || client.Addr() == source.Addr() {
		return netip.AddrPort{}
	}
	return client
}

// ClientLookups counts the packets that were asked for, whether the node itself has sent them or a client that hides behind it.
type ClientLookups struct {
	clientip.Counts
	// Refused are those that were dropped, since more came in a second than may be asked for.
	Refused uint64
}

// ClientLookups gives the counts since the start of this process, and of the switch for those refused. Where another process of the node
// answers, it counts the rest.
func (n *Node) ClientLookups(ctx context.Context) (ClientLookups, error) {
	refused, err := n.cfg.Switch.ClientsDropped(ctx)
	return ClientLookups{n.resolver.Counts(), refused}, err
}

func (c *clients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.table != nil {
		c.table.Close()
		c.table = nil
	}
}
