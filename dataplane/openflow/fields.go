package openflow

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
	// fieldVerdictMarks are the bits that Commit copies to ct_mark 7..9: those of markInspect, markCutThrough and markFailOpen.
	fieldVerdictMarks = field{0, 7, 9}
	// fieldHairpin is 1 for requests of a Pod to itself, on their way as the server's.
	fieldHairpin = field{0, 10, 10}
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
)

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
)

// The bit ranges of ct_mark and ct_label as actions write them.
const (
	markVerdictBits = "NXM_NX_CT_MARK[7..9]"    // markInspect, markCutThrough, markFailOpen
	labelInspection = "NXM_NX_CT_LABEL[64..75]" // InspectionID: which rule set the engine applies
	labelVerdict    = "NXM_NX_CT_LABEL[64..79]" // InspectionID and, in 76..79, EngineSlot
	labelEpoch      = "NXM_NX_CT_LABEL[80..111]"
	labelEpochShift = 80
	labelIDShift    = 64
)

// Epochs that no group has: group epochs are moved beyond them (see epochOf).
const (
	// epochNone is what a connection without an entry carries, and one that was left to others: it is judged at each packet.
	epochNone = 0
	// epochUngoverned is what connections carry that no group judged.
	epochUngoverned = 1
)

// engineSlot is the engine instance that new connections belong to. There is one for now.
const engineSlot = 0

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

// denialMAC is the start of the destination address of a denied packet's copy; the denial's number makes up the rest.
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
	priorityEpoch         = 200   // ConntrackState: judged by the present epoch
	priorityBackwards     = 300   // NewConnection: a reply that would open a connection
	priorityOwnService    = 260   // NewConnection, PeerClass: a server's connections to its own Services
	priorityUngoverned    = 250   // NewConnection
	priorityFragmentUDP   = 210   // fragments of UDP: NewConnection, ServiceLB, PeerPort, PortVerdict
	priorityFragment      = 200   // NewConnection
	priorityService       = 200   // ServiceLB
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
	featurePipeline  feature = 1 // what every bridge has
	featureEdge      feature = 2 // one edge; the cookie's subject is its number
	featureGroup     feature = 3 // one group; the subject is its number
	featureService   feature = 4 // a Service; the subject is its select group or the endpoint's number
	featureDenial    feature = 5 // denies; the subject is the denial's number
	featureNode      feature = 6 // the node's own addresses
	featureEngine    feature = 7 // to and from the engine
	featureProbe     feature = 8 // the agent's probes
	featureBackwards feature = 9 // drops replies that would open a connection; the subject is the group's number
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
