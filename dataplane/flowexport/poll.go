package flowexport

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// maxShare is the share of time that reading connections may take: with a larger one, the next poll waits.
const maxShare = 0.1

// poll reads connections and tells of those that are due. It gives how long it took.
func (e *Exporter) poll(ctx context.Context) time.Duration {
	began := time.Now()
	names := e.names()
	edges := map[uint16][]netip.Addr{}
	if names != nil {
		edges = names.Edges()
	}
	q := Query{Protocols: protocolsOf(e.active), Zones: e.zones(names, edges)}
	e.round++
	known := !e.polled
	unfollowed := uint64(0)
	var err error
	if (q.Zones == nil || len(q.Zones) > 0) && (q.Protocols == nil || len(q.Protocols) > 0) {
		err = e.options.Source.Dump(ctx, q, func(entry *Entry) {
			if !e.take(entry, edges, known) {
				unfollowed++
			}
		})
	}
	took := time.Since(began)
	if err == nil {
		e.polled = true
	}
	e.told(names, edges, err == nil)
	e.mu.Lock()
	e.status.PollError = ""
	if err != nil {
		e.status.PollError = err.Error()
	}
	e.status.PollSeconds, e.status.Connections = took.Seconds(), len(e.connections)
	e.status.Unfollowed += unfollowed
	e.mu.Unlock()
	return took
}

// zones gives those of the edges whose Pods some configuration wants; nil for all.
func (e *Exporter) zones(names Names, edges map[uint16][]netip.Addr) []uint16 {
	if names == nil {
		return nil
	}
	zones := []uint16{}
	for edge, pods := range edges {
		wanted := slices.ContainsFunc(e.active, func(c Config) bool {
			return (&Filter{Pods: c.Filter.Pods}).matches(0, "", pods)
		})
		if wanted {
			both := zonesOf(edge)
			zones = append(zones, both[:]...)
		}
	}
	slices.Sort(zones)
	return zones
}

// take takes an entry. It is false when there are too many connections.
func (e *Exporter) take(entry *Entry, edges map[uint16][]netip.Addr, known bool) bool {
	now := time.Now()
	k := keyOf(entry)
	c := e.connections[k]
	if c != nil && !c.sameAs(entry) {
		// Another one has taken its place.
		if !c.over {
			e.replaced = append(e.replaced, keyed{k, c})
		}
		delete(e.connections, k)
		c = nil
	}
	if c == nil {
		if !e.wants(entry, edges) {
			return true
		}
		if len(e.connections) >= e.options.MaxConnections {
			return false
		}
		c = newConn(entry, now, len(e.active), known)
		e.connections[k] = c
	} else {
		c.update(entry, now)
	}
	c.seen = e.round
	return true
}

// keyed is a connection with its key.
type keyed struct {
	connKey
	*conn
}

// wants tells whether any collector wants a connection.
func (e *Exporter) wants(entry *Entry, edges map[uint16][]netip.Addr) bool {
	pods := edges[edgeOf(entry.Zone)]
	d := directionOf(entry.Zone, entry.Client.Addr(), entry.Server.Addr(), pods)
	for i := range e.active {
		c := &e.active[i]
		if !c.Filter.matches(entry.Protocol, d, pods, entry.Client.Addr(), entry.Server.Addr()) {
			continue
		}
		for k := range c.Collectors {
			if c.Collectors[k].Filter.matches(entry.Protocol, d, pods, entry.Client.Addr(), entry.Server.Addr()) {
				return true
			}
		}
	}
	return false
}

// directionOf tells which way a connection goes, seen from the Pod whose edge has the zone; empty when that is not known.
func directionOf(zone uint16, client, server netip.Addr, pods []netip.Addr) Direction {
	switch {
	case isHairpinZone(zone):
		return Ingress
	case slices.Contains(pods, client):
		return Egress
	case slices.Contains(pods, server):
		return Ingress
	}
	return ""
}

// told tells of all connections that are due. complete tells that the dump was: what it did not have may be gone.
func (e *Exporter) told(names Names, edges map[uint16][]netip.Addr, complete bool) {
	now := time.Now()
	for _, k := range e.replaced {
		e.tellAll(k.connKey, k.conn, endFound, names, edges, now)
	}
	e.replaced = nil
	for k, c := range e.connections {
		if c.seen != e.round {
			if !complete {
				continue
			}
			if c.missed++; c.missed < missedMost {
				continue
			}
			if !c.over {
				e.tellAll(k, c, c.reasonGone(e.before), names, edges, now)
			}
			delete(e.connections, k)
			continue
		}
		e.tellDue(k, c, names, edges, now)
	}
	if complete {
		e.before = now
	}
	e.flush()
}

// tellDue tells of a connection that is there.
func (e *Exporter) tellDue(k connKey, c *conn, names Names, edges map[uint16][]netip.Addr, now time.Time) {
	for i := range e.active {
		reason := c.due(i, &e.active[i], spreadOf(&k, e.active[i].ActiveTimeout), now)
		if reason == 0 || reason == endActive && e.busy[i] {
			continue // what goes on can be told later as well
		}
		e.tell(i, k, c, reason, names, edges, now)
	}
	if closing(c.tcpState) {
		c.over = true
	}
}

func (e *Exporter) tellAll(k connKey, c *conn, reason endReason, names Names, edges map[uint16][]netip.Addr, now time.Time) {
	for i := range e.active {
		e.tell(i, k, c, reason, names, edges, now)
	}
}

// tell gives a configuration's collectors a record of a connection.
func (e *Exporter) tell(i int, k connKey, c *conn, reason endReason, names Names, edges map[uint16][]netip.Addr, now time.Time) {
	r := c.record(i, reason, now)
	edge := edgeOf(k.zone)
	pods := edges[edge]
	direction := directionOf(k.zone, c.client.Addr(), c.server.Addr(), pods)
	r.protocol, r.edge, r.direction = k.protocol, edge, flowIngress
	if direction == Egress {
		r.direction = flowEgress
	}
	if names != nil {
		if behind := names.ClientBehind(c.client, c.server, k.protocol); behind.IsValid() {
			r.client = behind
		}
		r.policies = names.Policies(c.inspectionID, c.epoch)
		r.name(names)
	}
	if q, ok := e.requests.get(requestKey{c.client, c.server, k.protocol}); ok {
		r.application, r.rule = q.Application, q.Rule
		if len(q.Policies) > 0 {
			r.policies = q.Policies
		}
	}
	e.send(i, &r, direction, pods)
}

// send gives a record to the collectors of a configuration that want it.
func (e *Exporter) send(i int, r *record, direction Direction, pods []netip.Addr) {
	c := &e.active[i]
	if !r.valid() || !c.Filter.matches(r.protocol, direction, pods, r.carried.Addr(), r.server.Addr()) {
		return
	}
	var t *template
	var data []byte
	for k := range c.Collectors {
		if !c.Collectors[k].Filter.matches(r.protocol, direction, pods, r.carried.Addr(), r.server.Addr()) {
			continue
		}
		to := e.senders[i][k]
		most := c.Collectors[k].MessageBytes - messageHeader - setHeader
		if data == nil || len(data) > most {
			var err error
			if t, data, err = e.encoders[i].encode(r, most); err != nil {
				e.options.Log.Error(err, "A record cannot be encoded")
				return
			}
		}
		to.offer(packed{t, data})
	}
}

// flush lets all senders send.
func (e *Exporter) flush() {
	for _, list := range e.senders {
		for _, c := range list {
			c.flush()
		}
	}
}
