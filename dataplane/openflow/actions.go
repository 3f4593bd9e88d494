package openflow

import (
	"fmt"
	"net/netip"
	"strings"
)

// Actions are spelled as ovs-ofctl dump-flows spells them.

const (
	drop    = "drop"
	popVLAN = "pop_vlan"
)

func actions(list ...string) string { return strings.Join(list, ",") }

// load sets a field of a register.
func load(f field, value uint32) string {
	shifted, mask := value<<f.lo, f.mask()
	if mask == ^uint32(0) {
		return fmt.Sprintf("set_field:%s->reg%d", hexadecimal(shifted), f.reg)
	}
	return fmt.Sprintf("set_field:%s/0x%x->reg%d", hexadecimal(shifted), mask, f.reg)
}

func gotoTable(t table) string { return fmt.Sprintf("goto_table:%d", t) }

// resubmit is goto_table where that is not allowed: in a group's bucket.
func resubmit(t table) string { return fmt.Sprintf("resubmit(,%d)", t) }

// loadInPort makes the packet one that came in by another port.
func loadInPort(port uint32) string { return fmt.Sprintf("set_field:%d->in_port", port) }

func output(port uint32) string { return fmt.Sprintf("output:%d", port) }

func toGroup(id uint32) string { return fmt.Sprintf("group:%d", id) }

func move(from, to string) string { return "move:" + from + "->" + to }

// lookup reads the connection in the edge's zone and goes on in ConntrackRead; nothing is rewritten.
func lookup() string {
	return show(tableConntrackRead)
}

// show lets the connection tracking of the edge's zone see the packet, which goes on in table t as it is.
func show(t table) string {
	return fmt.Sprintf("ct(table=%d,zone=%s)", t, fieldZone.name())
}

// translate reads the connection, applies its translation (or undoes it, for a reply) and goes on in table t.
func translate(t table) string {
	return fmt.Sprintf("ct(table=%d,zone=%s,nat)", t, fieldZone.name())
}

// commitVerdict writes the verdict's registers into the connection and goes on in table t. A translation that the connection
// already has stays, and so does markNATed.
func (r *renderer) commitVerdict(t table) string {
	return fmt.Sprintf("ct(commit,table=%d,zone=%s,exec(%s))", t, fieldZone.name(), r.verdictWrites())
}

// commitTranslated does the same for a new connection, and translates it to an endpoint.
func (r *renderer) commitTranslated(t table, endpoint netip.AddrPort) string {
	return fmt.Sprintf("ct(commit,table=%d,zone=%s,nat(dst=%s),exec(%s,set_field:0x%x/0x%x->ct_mark))",
		t, fieldZone.name(), endpoint, r.verdictWrites(), markNATed, markNATed)
}

// commitFrom does the same for a new connection, and gives it another source address.
func (r *renderer) commitFrom(t table, source netip.Addr) string {
	return fmt.Sprintf("ct(commit,table=%d,zone=%s,nat(src=%s),exec(%s,set_field:0x%x/0x%x->ct_mark))",
		t, fieldZone.name(), source, r.verdictWrites(), markNATed, markNATed)
}

// commitSlot writes into the connection which engine has seen its replies; the packet goes no further.
func commitSlot(shift int, slot uint8) string {
	return fmt.Sprintf("ct(commit,zone=%s,exec(set_field:%s->ct_label))", fieldZone.name(), slotLabel(shift, slot))
}

func (r *renderer) verdictWrites() string {
	writes := []string{
		move(fieldVerdictMarks.name(), markVerdictBits),
		move(fieldVerdictLabel.name(), labelVerdict),
		move(fieldEpoch.name(), labelEpoch),
	}
	if r.inspects() {
		writes = append(writes, r.tapWrites()...)
	}
	return actions(writes...)
}

// toEngine tags the packet with its connection's InspectionID and sends it to one of the engine's ports.
func toEngine(port uint32) string {
	return actions("push_vlan:0x8100", move(labelInspection, "OXM_OF_VLAN_VID[]"), output(port))
}
