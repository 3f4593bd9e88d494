package trace

import "net/netip"

// Ends of a bridge at which a packet comes in or goes out.
const (
	Pod     = "Pod"
	Node    = "node"
	Engine  = "engine"
	Signer  = "signature engine"
	Agent   = "agent"
	Nowhere = "nowhere"
)

// Connection is what is traced at one edge.
type Connection struct {
	// Protocol is tcp, udp or sctp.
	Protocol string
	// Client and Server are the addresses that the packets have where they come to the edge: at the client's edge, Server may be a Service's.
	Client, Server netip.AddrPort
	// Endpoint is the one that a Service is to be resolved to, when the edge does that; invalid: any.
	Endpoint netip.AddrPort
	// FromPod tells that the Pod opens the connection: the edge is the client's.
	FromPod bool
	// Registers are what is known of the first packet beforehand, as flows write it.
	Registers []string
}

// Port is a port of the bridge: what is behind it, and for an engine the port by which a packet comes back.
type Port struct {
	Behind string
	Back   uint32
	// Name says which one it is, where there are several.
	Name string
	// Copies tells of a port by which only copies go out.
	Copies bool
}

// Bridge is what the walk must know of a bridge.
type Bridge struct {
	Ports map[uint32]Port
	// PodPort and NodePort are the edge's two, and MAC the Pod's address.
	PodPort, NodePort uint32
	MAC               string
	// Deliver is the table in which packets go out.
	Deliver uint8
	// HairpinMark is the register of packets of a Pod to itself, at the server's side, as flows write it.
	HairpinMark string
	// Hairpin tells of the address that stands for a Pod that reaches itself.
	Hairpin func(netip.Addr) bool
}

// Ways is a connection's first packet each way.
type Ways struct {
	Request, Reply []Pass
	// Entries are what connection tracking holds of it then, by the zone in the order of their making: mark and label.
	Entries []Entry
	// Server is where the request goes, after all translation; equal to the Connection's when there was none.
	Server netip.AddrPort
}

// Entry is what connection tracking holds of a connection in one zone, as flows write it.
type Entry struct {
	Zone, Mark, Label string
}

// Pass is one way through the bridge: in by one port, out by another or to an end.
type Pass struct {
	// From and To are what is behind the ports.
	From, To string
	// Name is the engine's that it goes to, where there are several.
	Name string
	// VLAN is the tag that it goes out with; 0: none.
	VLAN uint16
	// Copies are the names of what gets copies.
	Copies []string
	// In and Out are its addresses, source and destination, where it comes in and where it goes out.
	In, Out [2]netip.AddrPort
	// Matches are the flows, with what connection tracking was taken to say before the first one after it looked.
	Matches []Seen
}

// Seen is a flow that was matched.
type Seen struct {
	Match
	// CTState is set at the first flow after connection tracking has looked at the packet, NAT where that has translated it.
	CTState, NAT string
}

// Delivered tells whether the last pass went out to the Pod or the node.
func Delivered(passes []Pass) bool {
	if len(passes) == 0 {
		return false
	}
	to := passes[len(passes)-1].To
	return to == Pod || to == Node
}
