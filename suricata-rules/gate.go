package suricatarules

import (
	"fmt"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// flowbits that the rules use. They are a connection's own, and vanish at a reload; the gate sets the first four again with
// every packet.
const (
	bitEnforce = "enforce" // the rule set enforces
	bitAudit   = "audit"   // the rule set only reports
	bitUDP     = "udp"     // a denial drops the packet, not the flow: one socket asks for many names
	bitTold    = "told"    // whether the protocol is allowed is known, or was reported
	bitAsked   = "asked"   // something was asked, so that replies pass
	bitOK      = "ok"      // an entry allows the present request
	bitSane    = "sane"    // the present request is well-formed
	// bitUnseen: there is no present request. A server whose response was lost while the engine restarted sends it again, and the
	// engine puts an empty request before it. What has a request line, whatever that is, is a request.
	bitUnseen   = "unseen"
	bitHosted   = "hosted"   // the present request's Host field has arrived
	bitFresh    = "fresh"    // HTTP/2: the headers of the present stream have just arrived
	bitNamed    = "named"    // HTTP/2: fields of the present stream are known
	bitSwitch   = "switch"   // the server answered 101
	bitFollowed = "followed" // to a protocol that the engine follows to
	bitClear    = "clear"    // nothing is held back, see hold
	bitBlank    = "blank"    // the present packet has an empty line
	bitOpened   = "opened"   // it is the first one since bitEnd was taken away
	bitEnd      = "end"      // an empty line came that may end a request which is not judged, see hold
	bitOlder    = "older"    // the connection is older than the rules, see older
	bitKept     = "kept"     // something of the connection was held back, and perhaps still is, see older
	bitEgress   = "egress"   // the client is the governed Pod
)

func set(bits ...string) string      { return bitOptions("set", bits) }
func unset(bits ...string) string    { return bitOptions("unset", bits) }
func isset(bits ...string) string    { return bitOptions("isset", bits) }
func isnotset(bits ...string) string { return bitOptions("isnotset", bits) }

// anyset holds when at least one of the bits is set.
func anyset(bits ...string) string { return bitOptions("isset", []string{strings.Join(bits, "|")}) }

func bitOptions(command string, bits []string) (options string) {
	for _, bit := range bits {
		options += fmt.Sprintf("flowbits:%s,%s; ", command, bit)
	}
	return options
}

// bit is the flowbit that stands for the rule set in detection rules, where vlan.id cannot stand.
func (c *compiler) bit() string { return fmt.Sprintf("rs%d", c.rs.ID) }

// gate lets packets without payload pass, and packets with payload once their connection's protocol is identified as an
// allowed one. Until then they are dropped and sent again by the client, so not one byte of an unidentified protocol gets
// through. ICMP errors about inspected connections pass: path MTU discovery needs them.
func (c *compiler) gate(s sorted) {
	mode := bitEnforce
	if c.rs.Audit {
		mode = bitAudit
	}
	for _, p := range s.allowed() {
		for _, l4 := range p.transports {
			bits := []string{c.bit(), mode}
			if l4 == "tcp" {
				bits = append(bits, bitTold)
			} else {
				bits = append(bits, bitUDP)
			}
			if l4 == "udp" && p.name == l7.ProtocolDNS {
				c.datagrams(bits...)
				continue
			}
			if p.name == l7.ProtocolHTTP1 && c.egress() {
				bits = append(bits, bitEgress)
			}
			c.accept(l4, "app-layer-protocol:"+p.name+"; ", p.name, "connections identified as "+p.name, bits...)
		}
	}
	if len(c.rs.Entries) > 0 {
		c.unidentified()
		c.accept("tcp", "dsize:0; ", "", "packets without payload", c.bit(), mode)
		c.accept("icmp", "itype:3; ", "", "ICMP errors", mode)
		c.accept("icmpv6", "itype:<5; ", "", "ICMPv6 errors", mode)
	}
	c.others(s, mode)
}

// unidentified reports, when the client ends a connection, that it sent something that was never identified.
func (c *compiler) unidentified() {
	c.firewall("accept:hook,alert tcp:all", c.vlan()+toServer+"flags:*FR; dsize:0; stream_size:client,>,1; "+
		isnotset(bitTold)+set(bitTold), Meaning{Kind: c.deny(), Detail: "the connection's protocol was not identified"})
}

func (c *compiler) accept(l4, condition, protocol, what string, bits ...string) {
	c.firewall("accept:hook "+l4+":all", c.vlan()+condition+set(bits...),
		Meaning{Kind: Gate, Protocol: protocol, Detail: "lets " + what + " on to judgement"})
}

// vlan holds for the rule set's packets. The prefilter keeps the engine from looking at all rule sets' rules for each packet. The
// tag is named by its place, the outermost: without a place, 8.0.8 finds no rule by a prefilter on vlan.id.
func (c *compiler) vlan() string { return fmt.Sprintf("vlan.id:%d,0; prefilter; ", c.rs.ID) }

// others reports, once a connection, that its protocol is not allowed. In Audit everything passes in the end; otherwise the
// engine's default policy drops what no rule accepts.
func (c *compiler) others(s sorted, mode string) {
	action := "drop:packet,alert "
	if c.rs.Audit {
		action = "accept:hook,alert "
	}
	once := isnotset(bitTold) + set(bitTold, mode)
	if !c.rs.Audit && !s.http1.allowed() {
		c.unallowedHTTP1(once)
	}
	for _, l4 := range []string{"tcp", "udp"} {
		if len(c.rs.Entries) == 0 {
			c.firewall(action+l4+":all", c.vlan()+once, Meaning{Kind: c.deny(), Detail: "nothing is allowed"})
			continue
		}
		c.firewall(action+l4+":all", c.vlan()+"app-layer-protocol:!failed; "+once,
			Meaning{Kind: c.deny(), Detail: "the connection's protocol is not allowed"})
		c.firewall(action+l4+":all", c.vlan()+"app-layer-protocol:failed; "+once,
			Meaning{Kind: c.deny(), Detail: "the connection's protocol was not identified"})
	}
	if c.rs.Audit {
		c.firewall("accept:hook ip:all", c.vlan()+set(mode), Meaning{Kind: Gate, Detail: "lets everything else pass: the rule set only reports"})
	}
}

// unallowedHTTP1 drops what clients send where HTTP/1 is not allowed. The engine parses it all the same, and nobody judges it, so it must
// not pass when it is sent again under rules that allow HTTP/1.
func (c *compiler) unallowedHTTP1(once string) {
	meaning := Meaning{Kind: c.deny(), Detail: "the connection's protocol is not allowed"}
	if len(c.rs.Entries) == 0 {
		meaning.Detail = "nothing is allowed"
	}
	sent := c.vlan() + toServer + "app-layer-protocol:http1; dsize:>0; "
	c.firewall("drop:flow,alert tcp:all", sent+once+mark(c.egress()), meaning)
	c.firewall("drop:flow tcp:all", sent+mark(c.egress()), meaning)
}

// allowedProtocol is a protocol that the gate lets through, and over what.
type allowedProtocol struct {
	name       string
	transports []string
}

func (s sorted) allowed() []allowedProtocol {
	var all []allowedProtocol
	add := func(allowed bool, name string, transports ...string) {
		if allowed {
			all = append(all, allowedProtocol{name, transports})
		}
	}
	add(s.http1.allowed(), "http1", "tcp")
	add(s.http2.allowed(), "http2", "tcp")
	add(s.tls.allowed(), "tls", "tcp")
	add(s.dns.allowed(), l7.ProtocolDNS, "tcp", "udp")
	for _, name := range s.others {
		add(true, name, "tcp", "udp")
	}
	return all
}
