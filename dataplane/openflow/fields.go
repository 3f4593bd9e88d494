package openflow

import "github.com/meerkat-dev/meerkat/dataplane/ledger"

// This file names every register, mark, label, priority and cookie once. Flows are built from these names only.

// field is a range of bits of a register: lo..hi, both included.
type field struct {
	reg    uint8
	lo, hi uint8
}

// Registers.
var (
	// fieldSource is the side of its edge that a packet came from: sourcePod or sourceUplink.
	fieldSource = field{0, 0, 1}
	// fieldProto is protoTCP, protoUDP or protoSCTP, for packets that are judged.
	fieldProto = field{0, 2, 3}
	// fieldEndpointChosen is 1 when ServiceLB has chosen an endpoint: it is the peer, in place of the packet's destination.
	fieldEndpointChosen = field{0, 4, 4}
	// fieldTranslate is 1 when Commit must translate the connection to the chosen endpoint.
	fieldTranslate = field{0, 5, 5}
	// fieldToNode is 1 for new connections to a node's own address, where node ports are.
	fieldToNode = field{0, 6, 6}
	// fieldVerdictMarks are the bits that Commit copies to ct_mark 7..9: those of markInspect, markCutThrough and markFailOpen.
	fieldVerdictMarks = field{0, 7, 9}
	// fieldHairpin is 1 for requests of a Pod to itself, on their way as the server's.
	fieldHairpin = field{0, 10, 10}
	// fieldTapMarks are the bits that Commit copies to ct_mark 11..12: those of markTapped and markTapOpen.
	fieldTapMarks = field{0, 11, 12}
	// fieldClient says what is known of who sends a packet from the node's own address: 0 is nothing (see clients.go).
	fieldClient = field{0, 13, 14}
	// fieldPath is pathReplyBypass, pathOrdinary or pathReset.
	fieldPath = field{0, 23, 24}
	// fieldEdge is the edge's number, ledger.EdgeFirst..EdgeLast.
	fieldEdge = field{1, 0, 15}
	// fieldZone is the edge's conntrack zone, ledger.ZoneBase plus its number, or the one of the server's side of connections of its
	// Pod to itself, ledger.HairpinZoneBase plus its number.
	fieldZone = field{1, 16, 31}
	// fieldOutPort is the bridge port at the edge's other side: where the packet leaves when all is well.
	fieldOutPort = field{2, 0, 31}
	// fieldGroup is the number of the group that judges connections opened from the packet's side; 0: not governed.
	fieldGroup = field{3, 0, 31}
	// fieldReverseGroup is the number of the group that judges connections opened from the edge's other side; 0: not governed.
	fieldReverseGroup = field{4, 0, 31}
	// fieldPeerPort is the server's port: the chosen endpoint's, else the packet's destination port.
	fieldPeerPort = field{5, 0, 15}
	// fieldAffinity is the number of the Service's port while the endpoint that keeps a client is looked for: afterwards the two above
	// and below are written.
	fieldAffinity = field{5, 0, 31}
	// fieldClass is the class of the peer's address in its group.
	fieldClass = field{5, 16, 31}
	// fieldEndpoint is the chosen endpoint's number (see numberEndpoints).
	fieldEndpoint = field{6, 0, 31}
	// fieldInspectionID and fieldEngineSlot are what Commit copies to ct_label 64..79.
	fieldInspectionID = field{7, 0, 11}
	fieldEngineSlot   = field{7, 12, 15}
	// fieldVerdictLabel is fieldInspectionID and fieldEngineSlot together.
	fieldVerdictLabel = field{7, 0, 15}
	// fieldEpoch is what Commit copies to ct_label 80..111.
	fieldEpoch = field{8, 0, 31}
	// fieldDetectTap is the number of the tap that gives copies to signature engines; 0: none. Commit copies it to ct_label 48..59.
	fieldDetectTap = field{9, 0, 11}
	// fieldUnDNAT is 1 for replies that get their un-DNAT last, in table UnDNAT.
	fieldUnDNAT = field{9, 12, 12}
	// fieldReply is 1 for replies, on their way by signature engines.
	fieldReply = field{9, 13, 13}
	// fieldPreventTap and fieldPreventSlot are the tap's number and the place of the signature engine that a packet goes through; 0:
	// none. Commit copies them to ct_label 112..127.
	fieldPreventTap  = field{10, 0, 11}
	fieldPreventSlot = field{10, 12, 15}
	// fieldPrevent is fieldPreventTap and fieldPreventSlot together.
	fieldPrevent = field{10, 0, 15}
	// fieldTapped are markTapped and markTapOpen of the packet's connection, and fieldTapOpen the latter.
	fieldTapped  = field{10, 16, 17}
	fieldTapOpen = field{10, 17, 17}
	// fieldCopySlot is the place of the signature engine that a copy is for.
	fieldCopySlot = field{11, 0, 3}
	// fieldPreventProcess is which process of the signature engine has seen the connection's replies. Commit copies it to ct_label 60..63.
	fieldPreventProcess = field{11, 4, 7}
	// fieldNodeAddress is the number of the node's own address that a packet comes from.
	fieldNodeAddress = field{11, 8, 19}
	// fieldClient4 is the client's address over IPv4; over IPv6 it is fieldClient6.
	fieldClient4 = field{12, 0, 31}
)

// fieldWay is, of a connection that a Pod opens, the number of the group that chooses an endpoint for it. fieldClient4 is of the others.
var fieldWay = field{12, 0, 31}

// fieldClient6 is registers 12 to 15 together, as move actions write them.
const fieldClient6 = "NXM_NX_XXREG3[]"

// Values of fieldSource.
const (
	sourcePod    = 1
	sourceUplink = 2
)

// Values of fieldProto.
const (
	protoTCP  = 1
	protoUDP  = 2
	protoSCTP = 3
)

// Values of fieldPath.
const (
	// pathReplyBypass is a reply of an inspected connection: to the engine as it is, un-DNAT later.
	pathReplyBypass = 1
	// pathOrdinary is anything else: conntrack with NAT as usual.
	pathOrdinary = 2
	// pathReset is a TCP reset of the agent's.
	pathReset = 3
)

// Bits of ct_mark.
const (
	// markInspect: this connection goes through the engine (InspectCTMark).
	markInspect = 0x80
	// markCutThrough is reserved: the verdict is final, the connection goes on around the engine.
	markCutThrough = 0x100
	// markFailOpen: while the engine does not inspect, this connection passes.
	markFailOpen = 0x200
	// markNATed: this connection was translated to an endpoint at this edge.
	markNATed = 0x400
	// markTapped: inspections look at this connection: its packets, or copies of these, go to signature engines.
	markTapped = 0x800
	// markTapOpen: while the signature engine that this connection goes through does not inspect, it passes.
	markTapOpen = 0x1000
)

// The bit ranges of ct_mark and ct_label as actions write them.
const (
	markVerdictBits = "NXM_NX_CT_MARK[7..9]"    // markInspect, markCutThrough, markFailOpen
	labelInspection = "NXM_NX_CT_LABEL[64..75]" // InspectionID: which rule set the engine applies
	labelVerdict    = "NXM_NX_CT_LABEL[64..79]" // InspectionID and, in 76..79, EngineSlot: the engine that has seen the connection's replies
	labelEpoch      = "NXM_NX_CT_LABEL[80..111]"
	markTapBits     = "NXM_NX_CT_MARK[11..12]"    // markTapped, markTapOpen
	labelDetect     = "NXM_NX_CT_LABEL[48..59]"   // the tap that gives copies to signature engines
	labelProcess    = "NXM_NX_CT_LABEL[60..63]"   // the process of the signature engine that it goes through that has seen its replies
	labelPrevent    = "NXM_NX_CT_LABEL[112..127]" // the tap of the signature engine that it goes through and, in 124..127, its slot
	labelEpochShift = 80
	labelIDShift    = 64
	labelSlotShift  = 76

	labelProcessShift = 60
)

// Epochs that no group has: group epochs are moved beyond them (see epochOf).
const (
	// epochNone is what a connection without an entry carries, and one that was left to others: it is judged at each packet.
	epochNone = 0
	// epochUngoverned is what connections carry that no group judged.
	epochUngoverned = 1
)

// VLAN tags as vlan_tci: bit 12 says that there is a tag, bit 11 is the top bit of the InspectionID, the direction.
const (
	vlanPresent = 0x1000
	vlanEgress  = 0x0800
)

// Priorities (802.1p) of the VLAN tag with which the agent hands a TCP reset to the bridge, together with the connection's
// InspectionID: whether it goes the way of the connection's requests or of its replies. Probes have priority 0.
const (
	ResetToServer = 1
	ResetToClient = 2
)

// denialMeter limits how many packets a second are copied to the agent's port; Switches make it.
const (
	denialMeter      = 1
	denialMeterRate  = 200
	denialMeterBurst = 400
)

// strayMeter limits how many stray replies a second are copied to the agent's port; Switches make it. A stray reply that is not copied
// is sent again by its server, after its retransmission time.
const (
	strayMeter      = copyMeter + ledger.SlotLast + 1
	strayMeterRate  = 200
	strayMeterBurst = 1000
)

// copyMeter is the first of the meters that limit how many copies a second each signature engine gets, one for each slot. An engine that
// gets more than it can look at loses them anyway, after they have cost the switch its time; and what copies take of that, originals
// lack. Two shared processors of 2026 look at 2.2 Gbit/s with 10,000 rules, some 180,000 large packets a second: an engine may get a
// quarter of that. Switches make the meters.
const (
	copyMeter      = 1 // plus the slot
	copyMeterRate  = 50000
	copyMeterBurst = 10000
)

// clientMeter limits how many packets a second are asked for who sends them (see clients.go); Switches make it. The rate is below what
// one processor answers: the kubelet's probes wait in the same line.
const (
	clientMeter      = strayMeter + 1
	clientMeterRate  = 5000
	clientMeterBurst = 2000
)

// denialMAC is the start of the destination address of a denied packet's copy; the denial's number makes up the rest. In the source
// address of a copy it marks a stray reply, whose destination address the agent needs.
var denialMAC = [2]byte{0x0a, 0x6d}

// Priorities. Within a table the higher one wins.
const (
	priorityProbe         = 500   // Classifier: the agent's probes
	priorityEngine        = 400   // Classifier: from the engine
	priorityTagged        = 300   // Classifier: tagged packets from an edge
	priorityEdge          = 200   // Classifier, AfterEngine: an edge's packets
	priorityReset         = 210   // AfterEngine: resets that conntrack must see
	priorityFragment6     = 90    // Conntrack: fragments over IPv6
	priorityReplyBypass   = 300   // ConntrackRead
	priorityNAT           = 200   // ConntrackRead: translated connections
	priorityRelated       = 190   // ConntrackRead: ICMP errors about a connection
	priorityFirstPing6    = 420   // ConntrackState: fragments of ICMP over IPv6
	priorityICMPError     = 410   // ConntrackState: ICMP
	priorityInvalid       = 400   // ConntrackState
	priorityReply         = 300   // ConntrackState
	priorityClient        = 250   // ConntrackState: from the node's own addresses
	priorityEpoch         = 200   // ConntrackState: judged by the present epoch
	priorityBackwards     = 300   // NewConnection: a reply that would open a connection
	priorityOwnService    = 260   // NewConnection, PeerClass: a server's connections to its own Services
	priorityUngoverned    = 250   // NewConnection
	priorityAnswer        = 240   // NewConnection: resets that answer what is asked
	priorityFragmentUDP   = 210   // fragments of UDP: NewConnection, ServiceLB, PeerPort, PortVerdict
	priorityFragment      = 200   // NewConnection
	priorityService       = 200   // ServiceLB, NodePort
	priorityNodeAddress   = 150   // ServiceLB: a node's address
	priorityKept          = 200   // Affinity, Kept: clients that an endpoint keeps
	priorityHairpinReply  = 230   // Deliver: replies of a Pod to itself
	priorityHairpin       = 220   // Classifier, Commit, AfterEngine, Deliver: of a Pod to itself
	priorityHairpinClass  = 950   // PeerClass: a Pod as its own client
	priorityNode          = 900   // PeerClass: from the node itself
	priorityEndpoint      = 800   // PeerClass: a chosen endpoint
	priorityEndpointOther = 700   // PeerClass: a chosen endpoint of the default class
	priorityPrefix        = 100   // PeerClass: plus the prefix's length, at most 228
	priorityUntranslated  = 900   // PortVerdict: to a Service's own address
	priorityVerdict       = 200   // PortVerdict
	priorityHold          = 65535 // Commit: no connection is judged for now
	priorityTapFragment   = 300   // AfterPolicy, Taps: fragments
	priorityTap           = 200   // Taps, AfterPolicy, Copy, Prevent: of one tap or slot
	priorityTranslate     = 200   // Commit: with the endpoint's translation
	priorityOutputReply   = 400   // Output: replies of inspected connections
	priorityOutputInspect = 212   // Output: other packets of inspected connections
	priorityStep          = 100   // a table's ordinary case
	priorityMiss          = 0     // anything else
)

// feature is the lower 16 bits of a cookie: what a flow is there for.
type feature uint16

// Features.
const (
	featurePipeline  feature = 1  // what every bridge has
	featureEdge      feature = 2  // one edge; the cookie's subject is its number
	featureGroup     feature = 3  // one group; the subject is its number
	featureService   feature = 4  // a Service; the subject is its select group or the endpoint's number
	featureDenial    feature = 5  // denies; the subject is the denial's number
	featureNode      feature = 6  // the node's own addresses
	featureEngine    feature = 7  // to and from the engine
	featureProbe     feature = 8  // the agent's probes
	featureTap       feature = 10 // inspections; the subject is the tap's number
	featureSignature feature = 11 // to and from a signature engine; the subject is its slot
	featureAffinity  feature = 12 // learned by the switch: which endpoint keeps a client
	featureBackwards feature = 9  // drops replies that would open a connection; the subject is the group's number
)

// Round stands in the upper 16 bits of every cookie. It counts layouts of tables and fields: flows of another round were written
// by another version of this package. Like everything that is not wanted they are deleted by Apply.
const Round = 1

// cookie is round, subject and feature: 16, 32 and 16 bits.
func cookie(f feature, subject uint32) uint64 {
	return Round<<48 | uint64(subject)<<16 | uint64(f)
}

// splitCookie gives a cookie's parts without the round.
func splitCookie(c uint64) (subject uint32, f feature) {
	return uint32(c >> 16), feature(c & 0xffff)
}
