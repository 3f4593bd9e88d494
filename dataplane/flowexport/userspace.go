package flowexport

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
)

// Lines is Open vSwitch as far as this package needs it (openflow.OVS).
type Lines interface {
	// ConnectionLines gives the lines of `ovs-appctl dpctl/dump-conntrack -s` for a zone, or for all when it is 0.
	ConnectionLines(ctx context.Context, zone uint16, take func(line []byte)) error
}

// Userspace reads the conntrack of Open vSwitch's userspace datapath, which counts neither packets nor bytes.
type Userspace struct {
	// Switch is asked.
	Switch Lines
	// late is for benchmarks: entries are filtered once they are parsed.
	late bool
}

// maxZoneDumps is up to how many zones are asked for one by one. ovs-vswitchd does nothing else while it prints connections, and its
// userspace datapath passes no packet: asked for a zone, it prints only that one's, and goes on with its packets in between.
const maxZoneDumps = 512

// Dump implements Source.
func (u *Userspace) Dump(ctx context.Context, q Query, take func(*Entry)) error {
	var e Entry
	wanted := newWanted(q)
	one := func(line []byte) {
		if !u.late && !wanted.line(line) {
			return
		}
		if parseLine(line, &e) && wanted.entry(&e) {
			take(&e)
		}
	}
	if u.late || q.Zones == nil || len(q.Zones) > maxZoneDumps {
		return u.Switch.ConnectionLines(ctx, 0, one)
	}
	for _, zone := range q.Zones {
		if err := u.Switch.ConnectionLines(ctx, zone, one); err != nil {
			return err
		}
	}
	return nil
}

// wanted is a query that can be asked fast.
type wanted struct {
	all       bool
	protocols [256]bool
	zones     []uint64 // bits; nil for all of edges
}

func newWanted(q Query) *wanted {
	w := &wanted{all: q.Protocols == nil}
	for _, p := range q.Protocols {
		w.protocols[p] = true
	}
	if q.Zones != nil {
		w.zones = make([]uint64, 1<<16/64)
		for _, z := range q.Zones {
			w.zones[z/64] |= 1 << (z % 64)
		}
	}
	return w
}

func (w *wanted) protocol(p uint8) bool { return w.all || w.protocols[p] }

func (w *wanted) zone(z uint16) bool {
	if w.zones == nil {
		return isEdgeZone(z)
	}
	return w.zones[z/64]&(1<<(z%64)) != 0
}

func (w *wanted) entry(e *Entry) bool { return w.protocol(e.Protocol) && w.zone(e.Zone) }

// line tells whether a line may be wanted, by its first word.
func (w *wanted) line(line []byte) bool {
	if w.all {
		return true
	}
	word, _, ok := bytes.Cut(line, comma)
	p, known := protocolOf(word)
	return ok && known && w.protocols[p]
}

// isEdgeZone tells whether a zone is an edge's.
func isEdgeZone(zone uint16) bool {
	edge := edgeOf(zone)
	return edge >= ledger.EdgeFirst && edge <= ledger.EdgeLast
}

// edgeOf gives the number of the edge whose zone it is; out of the range of edges when it is none's.
func edgeOf(zone uint16) uint16 {
	if zone > ledger.HairpinZoneBase {
		return zone - ledger.HairpinZoneBase
	}
	return zone - ledger.ZoneBase
}

// isHairpinZone tells whether a zone is that of a Pod's connections to itself, where they come back to it.
func isHairpinZone(zone uint16) bool { return zone > ledger.HairpinZoneBase }

// zonesOf gives an edge's two zones.
func zonesOf(edge uint16) [2]uint16 {
	return [2]uint16{ledger.ZoneBase + edge, ledger.HairpinZoneBase + edge}
}

var (
	comma = []byte{','}
	// protocolWords are Open vSwitch's (ct_dpif_format_ipproto); others are printed as numbers.
	protocolWords = map[string]uint8{
		"icmp": protocolICMP, "icmpv6": protocolICMPv6, "tcp": protocolTCP, "udp": protocolUDP, "sctp": protocolSCTP, "udplite": 136,
		"dccp": 33, "igmp": 2,
	}
	// tcpStates are Open vSwitch's names (ct_dpif_tcp_state_string), which are those of RFC 9293 but for their spelling.
	tcpStates = map[string]string{
		"CLOSED": "CLOSED", "LISTEN": "LISTEN", "SYN_SENT": "SYN_SENT", "SYN_RECV": "SYN_RECV", "ESTABLISHED": "ESTABLISHED",
		"CLOSE_WAIT": "CLOSE_WAIT", "FIN_WAIT_1": "FIN_WAIT_1", "CLOSING": "CLOSING", "LAST_ACK": "LAST_ACK", "FIN_WAIT_2": "FIN_WAIT_2",
		"TIME_WAIT": "TIME_WAIT",
	}
)

func protocolOf(word []byte) (uint8, bool) {
	if p, ok := protocolWords[string(word)]; ok {
		return p, true
	}
	n, ok := parseNumber(word)
	return uint8(n), ok && n <= 255
}

// parseLine reads a line into e. It is false for one that is no connection. A line looks like
//
//	tcp,orig=(src=10.0.0.2,dst=10.96.0.1,sport=40000,dport=80),reply=(src=10.0.0.3,dst=10.0.0.2,sport=8080,dport=40000),zone=57345,
//	mark=128,labels=0xd174e68e10010000000000000000,timeout=86389,protoinfo=(state_orig=ESTABLISHED,state_reply=ESTABLISHED,…)
func parseLine(line []byte, e *Entry) bool {
	*e = Entry{}
	word, rest, _ := bytes.Cut(line, comma)
	var ok bool
	if e.Protocol, ok = protocolOf(word); !ok {
		return false
	}
	var orig, reply tuple
	for len(rest) > 0 {
		var name, value []byte
		if name, value, rest, ok = nextField(rest); !ok {
			return false
		}
		switch string(name) {
		case "orig":
			ok = parseTuple(value, &orig)
		case "reply":
			ok = parseTuple(value, &reply)
		case "zone":
			e.Zone, ok = number16(value)
		case "mark":
			e.Mark, ok = number32(value)
		case "timeout":
			var n uint64
			n, ok = parseNumber(value)
			e.Timeout = time.Duration(n) * time.Second
		case "labels":
			e.InspectionID, e.Epoch, ok = parseLabels(value)
		case "protoinfo":
			e.TCPState = tcpState(value)
		}
		if !ok {
			return false
		}
	}
	e.Client, e.Sent = orig.ends()
	e.Server, e.Answered = reply.ends()
	e.ICMPType, e.ICMPCode, e.ICMPID = orig.icmpType, orig.icmpCode, orig.icmpID
	return e.Client.IsValid() && e.Server.IsValid()
}

// nextField cuts "name=value," off, where the value may be in parentheses.
func nextField(text []byte) (name, value, rest []byte, ok bool) {
	name, rest, ok = bytes.Cut(text, []byte{'='})
	if !ok {
		// A flag without a value.
		_, rest, _ = bytes.Cut(text, comma)
		return nil, nil, rest, true
	}
	if len(rest) > 0 && rest[0] == '(' {
		value, rest, ok = bytes.Cut(rest[1:], []byte{')'})
		return name, value, bytes.TrimPrefix(rest, comma), ok
	}
	value, rest, _ = bytes.Cut(rest, comma)
	return name, value, rest, true
}

type tuple struct {
	source, destination netip.Addr
	from, to            uint16
	icmpType, icmpCode  uint8
	icmpID              uint16
}

func (t *tuple) ends() (from, to netip.AddrPort) {
	return netip.AddrPortFrom(t.source, t.from), netip.AddrPortFrom(t.destination, t.to)
}

func parseTuple(text []byte, t *tuple) (ok bool) {
	for len(text) > 0 {
		var name, value []byte
		if name, value, text, ok = nextField(text); !ok {
			return false
		}
		var n uint16
		switch string(name) {
		case "src":
			t.source, ok = parseAddr(value)
		case "dst":
			t.destination, ok = parseAddr(value)
		case "sport":
			t.from, ok = number16(value)
		case "dport":
			t.to, ok = number16(value)
		case "id":
			t.icmpID, ok = number16(value)
		case "type":
			n, ok = number16(value)
			t.icmpType = uint8(n)
		case "code":
			n, ok = number16(value)
			t.icmpCode = uint8(n)
		}
		if !ok {
			return false
		}
	}
	return t.source.IsValid() && t.destination.IsValid()
}

// parseAddr reads an address, without an allocation when it is an IPv4 one.
func parseAddr(text []byte) (netip.Addr, bool) {
	if bytes.IndexByte(text, ':') >= 0 {
		a, err := netip.ParseAddr(string(text))
		return a, err == nil
	}
	var four [4]byte
	for i := range four {
		part := text
		if i < 3 {
			var ok bool
			if part, text, ok = bytes.Cut(text, []byte{'.'}); !ok {
				return netip.Addr{}, false
			}
		}
		n, ok := parseNumber(part)
		if !ok || n > 255 {
			return netip.Addr{}, false
		}
		four[i] = byte(n)
	}
	return netip.AddrFrom4(four), true
}

// parseNumber reads a number, also one that begins with 0x.
func parseNumber(text []byte) (uint64, bool) {
	if len(text) == 0 || len(text) > 18 {
		return 0, false
	}
	if text[0] == '0' && len(text) > 1 {
		n, err := strconv.ParseUint(string(text), 0, 64)
		return n, err == nil
	}
	var n uint64
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

func number16(text []byte) (uint16, bool) {
	n, ok := parseNumber(text)
	return uint16(n), ok && n <= 0xffff
}

func number32(text []byte) (uint32, bool) {
	n, ok := parseNumber(text)
	return uint32(n), ok && n <= 0xffffffff
}

// parseLabels reads the connection's label: the InspectionID is in its bits 64 to 75, the epoch in those from 80 on (openflow's fields).
func parseLabels(text []byte) (id uint16, epoch uint32, ok bool) {
	digits, ok := bytes.CutPrefix(text, []byte("0x"))
	if !ok || len(digits) > 32 {
		return 0, 0, false
	}
	var padded [32]byte
	copy(padded[:], "00000000000000000000000000000000")
	copy(padded[32-len(digits):], digits)
	var label [16]byte
	if _, err := hex.Decode(label[:], padded[:]); err != nil {
		return 0, 0, false
	}
	id, epoch = fromLabel(label)
	return id, epoch, true
}

// fromLabel takes a label apart, whose highest byte comes first.
func fromLabel(label [16]byte) (id uint16, epoch uint32) {
	id = uint16(label[6]&0xf)<<8 | uint16(label[7])
	epoch = uint32(label[2])<<24 | uint32(label[3])<<16 | uint32(label[4])<<8 | uint32(label[5])
	return id, epoch
}

// tcpState gives the state of a connection from those of both its ends: the one that is further on its way to the end.
func tcpState(text []byte) string {
	state := ""
	for len(text) > 0 {
		name, value, rest, ok := nextField(text)
		if !ok {
			break
		}
		text = rest
		if !bytes.HasPrefix(name, []byte("state")) {
			continue
		}
		if s := tcpStates[string(value)]; state == "" || slices.Index(tcpOrder, s) > slices.Index(tcpOrder, state) {
			state = s
		}
	}
	return state
}

// tcpOrder is how far states are on their way to the end.
var tcpOrder = []string{
	"", "LISTEN", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSE_WAIT", "CLOSING", "LAST_ACK", "TIME_WAIT", "CLOSED",
}
