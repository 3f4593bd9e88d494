package engine

import (
	"sync"
	"time"
)

// gateSettles is how long the gate must go on stopping a connection until that is a denial. TCP sends again after 0.2 s and 0.6 s,
// so that a denial is told after 0.6 s.
const gateSettles = 500 * time.Millisecond

// gateFlows bounds the connections that are watched at a time.
const gateFlows = 8192

// gateFilter holds back the gate's drops of TCP data until they are known to be a denial. A request whose first packet has less
// than four bytes is no protocol that the engine knows, and is dropped; it is sent again, by then with the bytes that followed
// recognised, and passes. Told as a denial, that would be false.
//
// A connection's data that is dropped still, gateSettles after the first time, is denied. So is a packet without data (it has no
// rule set), and every packet of other protocols, which nobody sends again.
type gateFilter struct {
	mu    sync.Mutex
	first map[uint64]time.Time // by flow
}

// holds tells that an event is not to be told, or not yet.
func (g *gateFilter) holds(e Event) bool {
	if e.Drop == nil || e.Drop.Reason != DropByGate || e.Proto != "TCP" || e.Drop.SYN {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	first, known := g.first[e.FlowID]
	if known {
		return e.Time.Sub(first) < gateSettles
	}
	if g.first == nil || len(g.first) >= gateFlows {
		g.first = make(map[uint64]time.Time) // those that are denied come again
	}
	g.first[e.FlowID] = e.Time
	return true
}
