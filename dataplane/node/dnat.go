package node

import (
	"context"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"
)

// dnats are the translated connections, as conntrack had them at a moment. One look at all of the switch's connections answers for all
// events of packets that passed before it: a look for each would take longer, the more connections and events there are.
type dnats struct {
	mu   sync.Mutex
	of   map[dnatKey]netip.AddrPort
	from time.Time // when the look began; zero before the first
	next time.Time // after one that failed
}

type dnatKey struct {
	client, server netip.AddrPort
	protocol       string
}

const (
	// connectionsTimeout bounds a look, and connectionsPause how soon after one that failed the next is made.
	connectionsTimeout, connectionsPause = time.Second, time.Second
)

// beforeDNAT tells where the client of a translated connection sent it, of which a packet was seen at a time. It returns an invalid address
// when there was no translation, or the entry is gone.
func (n *Node) beforeDNAT(client, server netip.AddrPort, protocol string, seen time.Time) netip.AddrPort {
	d := &n.dnats
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); (d.from.IsZero() || d.from.Before(seen)) && !now.Before(d.next) {
		d.of, d.from = n.translated(), now
		if d.of == nil {
			d.from, d.next = time.Time{}, time.Now().Add(connectionsPause)
		}
	}
	return d.of[dnatKey{client, server, strings.ToLower(protocol)}]
}

// translated asks conntrack; nil when it does not answer. An entry looks like
//
//	tcp,orig=(src=10.0.0.2,dst=10.96.0.1,sport=40000,dport=80),reply=(src=10.0.0.3,dst=10.0.0.2,sport=8080,dport=40000),zone=57345,…
func (n *Node) translated() map[dnatKey]netip.AddrPort {
	ctx, cancel := context.WithTimeout(context.Background(), connectionsTimeout)
	defer cancel()
	connections, err := n.cfg.Switch.Connections(ctx)
	if err != nil {
		return nil
	}
	all := map[dnatKey]netip.AddrPort{}
	for i := range connections {
		m := entryTuples.FindStringSubmatch(connections[i].Line)
		if m == nil {
			continue
		}
		from, to, answers := endpoint(m[1], m[3]), endpoint(m[2], m[4]), endpoint(m[5], m[6])
		if from.IsValid() && answers.IsValid() && to != answers {
			all[dnatKey{from, answers, strings.ToLower(connections[i].Protocol)}] = to
		}
	}
	return all
}

var entryTuples = regexp.MustCompile(`orig=\(src=([^,]+),dst=([^,]+),sport=(\d+),dport=(\d+)\),reply=\(src=([^,]+),dst=[^,]+,sport=(\d+),`)

func endpoint(address, port string) netip.AddrPort {
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	a, err := netip.ParseAddrPort(address + ":" + port)
	if err != nil {
		return netip.AddrPort{}
	}
	return a
}
