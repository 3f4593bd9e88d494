package ledger

import (
	"net"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"
)

// Numbers are what the ledger has handed out for the keys of one plan.NodePlan.
type Numbers struct {
	// Edges numbers the governed Pods, 1..4095. A Pod's conntrack zone is ZoneBase plus its number.
	Edges map[types.NamespacedName]uint16 `json:"edges"`
	// Groups numbers the plan's Groups, GroupFirst..GroupLast.
	Groups map[string]uint32 `json:"groups"`
	// RuleSets gives each rule set its InspectionID, which is the VLAN id that the engine knows it by: IngressFirst..IngressLast
	// for ingress, EgressFirst..EgressLast for egress, so that bit 11 tells the direction.
	RuleSets map[string]uint16 `json:"ruleSets"`
	// Taps gives each tap the VLAN id with which signature engines get its packets: from the same ranges, by direction. Nil without any.
	Taps map[string]uint16 `json:"taps,omitempty"`
	// Slots gives each profile the place of its engine, SlotFirst..SlotLast. Nil without any.
	Slots map[string]uint8 `json:"slots,omitempty"`
}

// Ranges of the numbers.
const (
	EdgeFirst = 1
	EdgeLast  = 4095

	GroupFirst = 1
	GroupLast  = 16383 // twice as many as 4095 edges can have

	IngressFirst = 1
	IngressLast  = 2047
	EgressFirst  = 2049
	EgressLast   = 4093

	SlotFirst = 1
	SlotLast  = 15

	// EngineSlots, of which each new engine process gets the next one, go from 1; 0 is none.
	EngineSlotLast = 15

	// ProbeVLAN is the VLAN id of the agent's in-band probes; no rule set ever has it.
	ProbeVLAN = 4094
	// ZoneBase is added to an edge's number to give its conntrack zone. High, because other users of the same conntrack
	// table (OVN, for one) hand out theirs from 1.
	ZoneBase = 0xE000
	// HairpinZoneBase is added to an edge's number to give its second conntrack zone, for connections of the Pod to itself: their
	// packets pass the edge twice.
	HairpinZoneBase = 0xF000
)

// ProbeMAC is where the probes of an engine are addressed to, that go the way of requests or of replies through it: the agent's interface
// carries those of all engines. The engine of policies has slot 0, signature engines theirs.
func ProbeMAC(slot uint8, reply bool) net.HardwareAddr {
	mac := net.HardwareAddr{0x0a, 0x6b, 0, 0, slot, 2}
	if reply {
		mac[3] = 1
	}
	return mac
}

// HairpinIPv4 and HairpinIPv6 are what a Pod that reaches itself through a Service of its own sees as its client's address, since
// no Pod takes packets from its own. They are of no network that anybody else is in: link-local, which is never routed, and
// random (RFC 4193). The Pod needs a default route, by which its answers go out.
func HairpinIPv4() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 77, 75}) }

// HairpinIPv6 is HairpinIPv4 for IPv6.
func HairpinIPv6() netip.Addr { return netip.MustParseAddr("fdd1:8c2e:77a5::4d4b") }

// IsHairpin says whether an address is one of these.
func IsHairpin(a netip.Addr) bool { return a == HairpinIPv4() || a == HairpinIPv6() }
