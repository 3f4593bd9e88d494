package openflow

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
)

// match collects what a flow matches. Its text is spelled as ovs-ofctl dump-flows spells it, so that what is written and what
// is read back compare as strings.
type match struct {
	ctState           string
	ctMark            masked
	ctEpoch           masked
	ctSlot            string
	ctProto           int
	proto             string
	regs              [16]masked
	inPort            uint32
	vlanTCI           masked
	vlanID            uint16
	vlanPCP           uint32
	dlSrc, dlDst      string
	src, dst          netip.Prefix
	fragment          string
	icmpType          int // -1: any
	tpSrc, tpDst      masked
	tcpFlags          string
	hasInPort, hasTag bool
}

// masked is a value under a mask; a zero mask matches anything.
type masked struct{ value, mask uint32 }

// condition narrows a match.
type condition func(*match)

func newMatch(conditions ...condition) string {
	m := match{icmpType: -1}
	for _, c := range conditions {
		c(&m)
	}
	return m.String()
}

// is matches a field of a register.
func is(f field, value uint32) condition {
	return func(m *match) {
		r := &m.regs[f.reg]
		r.value |= value << f.lo
		r.mask |= f.mask()
	}
}

// within matches a field of a register under a mask.
func within(f field, p portMask) condition {
	return func(m *match) {
		r := &m.regs[f.reg]
		r.value |= uint32(p.value) << f.lo
		r.mask |= uint32(p.mask) << f.lo
	}
}

// ctState matches connection states, written in the order -new-est-rel-rpl-inv-trk.
func ctState(flags string) condition { return func(m *match) { m.ctState = flags } }

// ctMark matches bits of the connection's mark that must be set.
func ctMark(bits uint32) condition {
	return func(m *match) { m.ctMark.value |= bits; m.ctMark.mask |= bits }
}

// ctMarkClear matches bits of the connection's mark that must not be set.
func ctMarkClear(bits uint32) condition { return func(m *match) { m.ctMark.mask |= bits } }

// ctEpoch matches the epoch in the connection's label.
func ctEpoch(epoch uint32) condition {
	return func(m *match) { m.ctEpoch = masked{epoch, ^uint32(0)} }
}

// ctSlot matches the engine in the connection's label.
func ctSlot(slot uint8) condition {
	return func(m *match) { m.ctSlot = slotLabel(labelSlotShift, slot) }
}

// ctProcess matches the process of a signature engine in the connection's label.
func ctProcess(process uint8) condition {
	return func(m *match) { m.ctSlot = slotLabel(labelProcessShift, process) }
}

// proto matches a protocol by ovs-ofctl's shorthand: ip, ipv6, tcp, tcp6, icmp6 and so on.
func proto(name string) condition { return func(m *match) { m.proto = name } }

func inPort(port uint32) condition {
	return func(m *match) { m.inPort, m.hasInPort = port, true }
}

func vlanTCI(value, mask uint32) condition { return func(m *match) { m.vlanTCI = masked{value, mask} } }

// vlanID matches the id of a packet's VLAN tag.
func vlanID(id uint16) condition { return func(m *match) { m.vlanID, m.hasTag = id, true } }

// vlanPCP matches the priority of a packet's VLAN tag, 1..7.
func vlanPCP(priority uint32) condition { return func(m *match) { m.vlanPCP = priority } }

// ofProbe matches the VLAN id of the agent's probes.
func ofProbe(m *match) { m.vlanID, m.hasTag = ledger.ProbeVLAN, true }

func dlSrc(mac net.HardwareAddr) condition { return func(m *match) { m.dlSrc = mac.String() } }

func dlDst(mac net.HardwareAddr) condition { return func(m *match) { m.dlDst = mac.String() } }

// srcIn and dstIn match an address; the family's protocol must be matched as well.
func srcIn(p netip.Prefix) condition { return func(m *match) { m.src = p } }

func dstIn(p netip.Prefix) condition { return func(m *match) { m.dst = p } }

// firstFragment matches first fragments, laterFragment all others.
func firstFragment(m *match) { m.fragment = "first" }

func laterFragment(m *match) { m.fragment = "later" }

// fragmentUDP matches fragments of UDP that conntrack has put together. It tells their protocol, but not their port, which Open
// vSwitch takes from no fragment, not even the first.
func fragmentUDP(m *match) {
	m.fragment = "yes"
	m.ctProto = 17
	if m.ctState == "" {
		m.ctState = "-inv+trk" // without -inv, Open vSwitch lets no flow use what conntrack tells
	}
}

func icmpType(t int) condition { return func(m *match) { m.icmpType = t } }

func tpSrc(p portMask) condition { return func(m *match) { m.tpSrc = p.masked() } }

func tpDst(port uint16) condition {
	return func(m *match) { m.tpDst = masked{uint32(port), 0xffff} }
}

func tpDstIn(p portMask) condition { return func(m *match) { m.tpDst = p.masked() } }

// notSYN matches TCP segments without the SYN flag.
func notSYN(m *match) { m.tcpFlags = "-syn" }

// onlySYN matches TCP segments that open a connection.
func onlySYN(m *match) { m.tcpFlags = "+syn-ack" }

// answerRST matches the reset with which a kernel answers a segment of a connection that it does not know: unlike one by which a program
// ends a connection, it acknowledges nothing (RFC 9293, 3.10.7.1).
func answerRST(m *match) { m.tcpFlags = "+rst-ack" }

// String puts the parts in the order in which Open vSwitch prints them.
func (m *match) String() string {
	var parts []string
	add := func(key, value string) {
		if value != "" {
			parts = append(parts, key+"="+value)
		}
	}
	add("ct_state", m.ctState)
	add("ct_mark", m.ctMark.full(0xffffffff, hexadecimal))
	if m.ctEpoch.mask != 0 {
		add("ct_label", epochLabel(m.ctEpoch.value))
	}
	if m.ctSlot != "" {
		add("ct_label", m.ctSlot)
	}
	if m.ctProto != 0 {
		add("ct_nw_proto", strconv.Itoa(m.ctProto))
	}
	if m.proto != "" {
		parts = append(parts, m.proto)
	}
	for i, r := range m.regs {
		add("reg"+strconv.Itoa(i), r.full(0xffffffff, hexadecimal))
	}
	if m.hasInPort {
		add("in_port", strconv.FormatUint(uint64(m.inPort), 10))
	}
	if m.hasTag {
		add("dl_vlan", strconv.Itoa(int(m.vlanID)))
	}
	if m.vlanPCP != 0 {
		add("dl_vlan_pcp", strconv.Itoa(int(m.vlanPCP)))
	}
	if m.vlanTCI.mask != 0 {
		add("vlan_tci", fmt.Sprintf("0x%04x/0x%04x", m.vlanTCI.value, m.vlanTCI.mask))
	}
	add("dl_src", m.dlSrc)
	add("dl_dst", m.dlDst)
	add(m.addressKeys(m.src, "src"))
	add(m.addressKeys(m.dst, "dst"))
	add("nw_frag", m.fragment)
	if m.icmpType >= 0 {
		add("icmp_type", strconv.Itoa(m.icmpType))
	}
	add("tp_src", m.tpSrc.ports())
	add("tp_dst", m.tpDst.ports())
	add("tcp_flags", m.tcpFlags)
	return strings.Join(parts, ",")
}

// addressKeys gives the key and the value of a prefix; a prefix of length 0 matches anything and gives nothing.
func (m *match) addressKeys(p netip.Prefix, side string) (key, value string) {
	key = "nw_" + side
	if p.Addr().Is6() {
		key = "ipv6_" + side
	}
	switch {
	case !p.IsValid() || p.Bits() == 0:
		return key, ""
	case p.IsSingleIP():
		return key, p.Addr().String()
	default:
		return key, p.String()
	}
}

// full writes a masked value, without the mask when it covers all bits.
func (v masked) full(all uint32, write func(uint32) string) string {
	switch v.mask {
	case 0:
		return ""
	case all:
		return write(v.value)
	default:
		return hexadecimal(v.value) + "/" + hexadecimal(v.mask)
	}
}

// ports writes ports as ovs-ofctl does: 80, 0x1000/0xf000, and, unlike other fields, 0x0/0xf000.
func (v masked) ports() string {
	if v.value == 0 && v.mask != 0 && v.mask != 0xffff {
		return "0x0/" + hexadecimal(v.mask)
	}
	return v.full(0xffff, portNumber)
}

// hexadecimal writes a number as ovs-ofctl does: 0x10, but 0.
func hexadecimal(v uint32) string {
	if v == 0 {
		return "0"
	}
	return "0x" + strconv.FormatUint(uint64(v), 16)
}

func portNumber(v uint32) string { return strconv.FormatUint(uint64(v), 10) }

// epochLabel writes an epoch's place in the label as value and mask.
func epochLabel(epoch uint32) string {
	const mask = "/0xffffffff00000000000000000000"
	if epoch == 0 {
		return "0" + mask
	}
	return "0x" + strconv.FormatUint(uint64(epoch), 16) + strings.Repeat("0", labelEpochShift/4) + mask
}

// slotLabel is an EngineSlot, or a signature engine's process, as a label and its mask.
func slotLabel(shift int, slot uint8) string {
	zeros := strings.Repeat("0", shift/4)
	if slot == 0 {
		return "0/0xf" + zeros
	}
	return "0x" + strconv.FormatUint(uint64(slot), 16) + zeros + "/0xf" + zeros
}

// mask gives the field's bits of its register.
func (f field) mask() uint32 {
	return uint32((uint64(1)<<(f.hi-f.lo+1) - 1) << f.lo)
}

// name is the field as move and output actions write it.
func (f field) name() string {
	if f.lo == 0 && f.hi == 31 {
		return fmt.Sprintf("NXM_NX_REG%d[]", f.reg)
	}
	return fmt.Sprintf("NXM_NX_REG%d[%d..%d]", f.reg, f.lo, f.hi)
}
