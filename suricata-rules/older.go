package suricatarules

import (
	"fmt"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
)

// A reload of rules takes all flowbits away, since the engine frees a connection's variables when it sees it for the first time under
// new rules, and with them what it holds of the connection. What it notes of a host stays. So each time that something is held back,
// or dropped though the engine has parsed it, the governed Pod's address is marked, for good. Connections of a Pod that is not
// marked have nothing that could pass unjudged when it is sent again, and go on. Those of one that is are held until the next
// judgement, which delays them by one retransmission.
//
// The governed Pod's address, and not its peer's: a node has few, so that there is always room for their marks. A stranger may have
// more addresses than the engine can remember, and then some mark would be lost.

// markLasts is for how long a mark holds, in seconds: longer than any connection.
const markLasts = "4294967295"

// mark notes that something of a connection is held back.
func mark(egress bool) string { return marked("set", egress) }

// marked is an option about the mark of a connection's governed Pod, in rules for packets to the server.
func marked(command string, egress bool) string {
	track := "ip_dst"
	if egress {
		track = "ip_src"
	}
	option := "xbits:" + command + ",held,track " + track
	if command == "set" {
		option += ",expire " + markLasts
	}
	return option + "; "
}

// towards holds for connections of one direction.
func towards(egress bool) string {
	if egress {
		return isset(bitEgress)
	}
	return isnotset(bitEgress)
}

func (c *compiler) egress() bool { return c.rs.ID >= ledger.EgressFirst }

// older recognises connections that are older than the rules, and lets those go on of which nothing is held back. An empty line may have
// come before, out of order, that no flowbit tells of any more: so it counts as having come.
func (c *compiler) older() {
	older := toServer + isset(bitEnforce) + isnotset(bitClear, bitKept)
	c.detect("alert tcp", older+"app-layer-protocol:http1; "+set(bitOlder)+"noalert; "+first,
		Meaning{Kind: Gate, Protocol: "http1", Detail: "recognises connections that are older than the rules"})
	for _, egress := range []bool{false, true} {
		c.detect("alert tcp", older+towards(egress)+"app-layer-protocol:http1; "+marked("isnotset", egress)+set(bitClear, bitOlder)+"noalert; "+second,
			Meaning{Kind: Gate, Protocol: "http1", Detail: "lets connections go on that are older than the rules"})
	}
}

// unruledSID is the first sid of the rules for VLAN ids without rules; the common rules have those below.
const unruledSID = 1 << 12

// unruled drops what comes with VLAN ids that have no rules, as the engine would by itself, and marks it. It stands behind all rule sets.
func unruled() Compiled {
	c := compiler{next: unruledSID}
	for _, egress := range []bool{false, true} {
		vlans := fmt.Sprintf("vlan.id:<%d,0; ", ledger.EgressFirst)
		if egress {
			vlans = fmt.Sprintf("vlan.id:>%d,0; ", ledger.EgressFirst-1)
		}
		c.firewall("drop:flow tcp:all", vlans+toServer+isnotset(bitEnforce, bitAudit)+"app-layer-protocol:http1; dsize:>0; "+mark(egress),
			Meaning{Kind: Deny, Protocol: "http1", Detail: "there are no rules for the connection"})
	}
	return c.out
}
