package flowexport

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// connKey tells connections apart: the request's tuple, in a zone.
type connKey struct {
	client, sent         [16]byte
	clientPort, sentPort uint16
	zone                 uint16
	protocol             uint8
	icmpType             uint8
}

func keyOf(e *Entry) connKey {
	k := connKey{
		client: e.Client.Addr().As16(), sent: e.Sent.Addr().As16(), clientPort: e.Client.Port(), sentPort: e.Sent.Port(),
		zone: e.Zone, protocol: e.Protocol, icmpType: e.ICMPType,
	}
	if e.ICMPID != 0 {
		k.clientPort = e.ICMPID
	}
	return k
}

// conn is what is known of a connection.
type conn struct {
	client, sent, server, answered           netip.AddrPort
	start                                    time.Time
	active                                   time.Time // when packets were last seen
	expires                                  time.Time // when conntrack forgets it; zero when that is not known
	packets, bytes, replyPackets, replyBytes uint64
	id, epoch                                uint32
	inspectionID                             uint16
	icmpType, icmpCode                       uint8
	counted                                  bool
	// over tells that it has ended, and that this has been told.
	over bool
	// missed is in how many dumps it was missing, one after another, and seen the number of the last one that had it.
	missed   uint8
	seen     uint32
	tcpState string
	// told is what each configuration has been told, by its place.
	told []told
}

// told is what a configuration knows of a connection.
type told struct {
	at                                       time.Time // when it was told last, or first should have been
	until                                    time.Time // the end of the last record; zero before
	packets, bytes, replyPackets, replyBytes uint64
	idle                                     bool // told that it is idle
}

// missedMost is how many dumps may miss a connection that is there: conntrack changes while it is read.
const missedMost = 2

// sameAs tells whether an entry is about this connection rather than about a later one with the same addresses.
func (c *conn) sameAs(e *Entry) bool {
	switch {
	case c.id != e.ID:
		return false
	case c.counted && e.Counted && (e.Packets < c.packets || e.ReplyPackets < c.replyPackets):
		return false
	case closing(c.tcpState) && !closing(e.TCPState):
		return false
	case c.server != e.Server:
		return false
	}
	return true
}

// closing tells whether a connection in that state has ended. In LAST_ACK one packet is missing still.
func closing(tcpState string) bool { return tcpState == "TIME_WAIT" || tcpState == "CLOSED" }

// expiryGrace is by how much the time of a connection's end may seem to move without packets: conntrack tells whole seconds.
const expiryGrace = 1500 * time.Millisecond

// update takes what conntrack has now.
func (c *conn) update(e *Entry, now time.Time) {
	moved := false
	var expires time.Time
	if e.Timeout > 0 {
		expires = now.Add(e.Timeout)
		moved = expires.Sub(c.expires) > expiryGrace
	}
	if e.Counted {
		moved = e.Packets != c.packets || e.ReplyPackets != c.replyPackets
	}
	if moved || e.TCPState != c.tcpState {
		c.active = now
	}
	if moved || c.expires.IsZero() || expires.Before(c.expires) {
		c.expires = expires
	}
	c.server, c.answered, c.tcpState, c.counted = e.Server, e.Answered, e.TCPState, e.Counted
	c.packets, c.bytes, c.replyPackets, c.replyBytes = e.Packets, e.Bytes, e.ReplyPackets, e.ReplyBytes
	c.inspectionID, c.epoch = e.InspectionID, e.Epoch
	c.missed = 0
}

// newConn makes the connection of an entry. With known, it was there before the exporter: what it has counted until now has been told by another,
// or never will be.
func newConn(e *Entry, now time.Time, configs int, known bool) *conn {
	c := &conn{
		client: e.Client, sent: e.Sent, id: e.ID, icmpType: e.ICMPType, icmpCode: e.ICMPCode, start: e.Start, active: now, told: make([]told, configs),
	}
	c.update(e, now)
	c.active = now
	if c.start.IsZero() || known {
		c.start = now
	}
	for i := range c.told {
		if known {
			c.baseline(i, now)
		} else {
			c.told[i].at = now
		}
	}
	c.over = known && closing(e.TCPState)
	return c
}

// baseline makes a configuration's view begin now.
func (c *conn) baseline(i int, now time.Time) {
	c.told[i] = told{at: now, packets: c.packets, bytes: c.bytes, replyPackets: c.replyPackets, replyBytes: c.replyBytes, until: now}
}

// reasonGone tells why conntrack has a connection no more.
func (c *conn) reasonGone(last time.Time) endReason {
	if c.tcpState == "" && !c.expires.IsZero() && c.expires.After(last.Add(expiryGrace)) {
		return endForced
	}
	if c.tcpState != "" && !closing(c.tcpState) && c.expires.After(last.Add(expiryGrace)) {
		return endForced
	}
	return endFound
}

// record makes the record of what a configuration has not been told. It is told with that.
func (c *conn) record(i int, reason endReason, now time.Time) record {
	t := &c.told[i]
	r := record{
		start: c.start, end: c.active, client: c.client, carried: c.client, sent: c.sent, server: c.server,
		icmpType: c.icmpType, icmpCode: c.icmpCode, counted: c.counted, reason: reason, event: eventUpdate, status: statusForwarded, tcpState: c.tcpState,
		packets: c.packets - t.packets, bytes: c.bytes - t.bytes,
		replyPackets: c.replyPackets - t.replyPackets, replyBytes: c.replyBytes - t.replyBytes,
	}
	if !t.until.IsZero() {
		r.start = t.until
	}
	if r.end.Before(r.start) {
		r.end = r.start
	}
	if reason == endFound || reason == endForced {
		r.event = eventDeleted
	}
	*t = told{
		at: now, until: r.end, packets: c.packets, bytes: c.bytes, replyPackets: c.replyPackets, replyBytes: c.replyBytes, idle: reason == endIdle,
	}
	return r
}

// due tells why a configuration is to be told of a connection now; 0 when it is not.
func (c *conn) due(i int, config *Config, spread time.Duration, now time.Time) endReason {
	t := &c.told[i]
	fresh := c.active.After(t.until)
	switch {
	case c.over:
		return 0
	case closing(c.tcpState):
		return endFound
	case t.idle && !fresh:
		return 0
	case now.Sub(c.active) >= config.IdleTimeout:
		return endIdle
	case fresh && now.Sub(t.at)+firstSooner(t, spread) >= config.ActiveTimeout:
		return endActive
	}
	return 0
}

// firstSooner makes connections that were all seen at once not be told of all at once, each time.
func firstSooner(t *told, spread time.Duration) time.Duration {
	if t.until.IsZero() {
		return spread
	}
	return 0
}

var spreadSeed = maphash.MakeSeed()

// spreadOf gives a share of up to a half of the active timeout, by the connection.
func spreadOf(k *connKey, timeout time.Duration) time.Duration {
	n := maphash.Comparable(spreadSeed, *k) % 1024
	return timeout / 2 * time.Duration(n) / 1024
}
