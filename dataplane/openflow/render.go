package openflow

import (
	"cmp"
	"net"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Ports are the bridge's port numbers (ofport).
type Ports struct {
	// Edges has the governed Pods that are interposed. Pods of the plan that are not here get no flows yet.
	Edges map[types.NamespacedName]EdgePorts
	// EngineA and EngineB are the bridge's ends of the engine's pair: requests go out by A and come back by B.
	EngineA uint32
	EngineB uint32
	// EngineSlot tells one engine process from the one before it, 1..15; 0: there was none yet.
	EngineSlot uint8
	// Agent is the bridge's end of the agent's pair.
	Agent uint32
	// Signatures are the ports of the signature engines, by their profiles' keys. Profiles of the plan that are not here get no packets
	// yet: what should go through their engines does what its failure policy says.
	Signatures map[string]SignaturePorts
}

// SignaturePorts are the bridge's ends of a signature engine's pairs.
type SignaturePorts struct {
	// A is where copies go out; of an engine that prevents, where requests go out. B is where these come back, and where replies go out.
	A, B uint32
	// Process tells one process of an engine that prevents from the one before it, 1..15; 0: there was none yet.
	Process uint8
	// Up is false while an engine that prevents does not inspect.
	Up bool
}

// EdgePorts are the two sides of an edge.
type EdgePorts struct {
	Pod    uint32
	Uplink uint32
	// MAC is the Pod's address, by which a packet that comes back from the engine finds its edge.
	MAC net.HardwareAddr
}

// Render gives the flows and groups that enforce a plan. It is pure: the same arguments give the same bytes. The numbers n must
// cover the plan. While engineUp is false nothing is sent to the engine: inspected connections pass when their policies fail
// open, and are dropped otherwise.
//
// What is wrong with the arguments is in the Bundle's Err.
func Render(p *plan.NodePlan, n ledger.Numbers, ports Ports, engineUp bool) *Bundle {
	r := newRenderer(p, n, ports, engineUp)
	r.classifier()
	if r.asks {
		r.client()
	}
	r.conntrack()
	r.conntrackRead()
	r.conntrackState()
	r.newConnection()
	if r.asks {
		r.askClient()
	}
	r.serviceLB()
	r.peerPort()
	r.peerClass()
	if r.asks {
		r.nodeSource()
	}
	r.portVerdict()
	if r.inspects() {
		r.taps()
	}
	r.commit()
	r.committed()
	r.output()
	r.afterEngine()
	if r.inspects() {
		r.signatureEngines()
	}
	r.deliver()
	r.b.Denials = r.denials.list()
	slices.SortFunc(r.b.Groups, func(x, y Group) int { return cmp.Compare(x.ID, y.ID) })
	return r.b
}

// renderer is what the tables' files share: the arguments of Render, and what is worked out of them once.
type renderer struct {
	b        *Bundle
	plan     *plan.NodePlan
	numbers  ledger.Numbers
	ports    Ports
	engineUp bool

	macs      map[string]string // which Pod has a MAC address
	edges     []edge
	groups    []group
	endpoints map[netip.AddrPort]uint32
	udpPorts  map[netip.Addr]int // how many ports a Service's address has
	denials   *denialNumbers
	// keeping are the flows that keep clients, of the tables that come after those in which Services are found.
	keeping Bundle
	// kept are the numbers of the Services' ports with session affinity; nil: there are none yet.
	kept      map[string]uint32
	keptTaken map[uint32]bool
	asks      bool // who sends packets from the node's own addresses
	// frontends are the places of Services that have endpoints.
	frontends []frontend
	// nodeFrontends are those of the node ports that have some, for each family.
	nodeFrontends []nodeFrontend
}

// edge is a governed Pod that has its ports.
type edge struct {
	plan.Edge
	ports           EdgePorts
	number          uint16
	ingress, egress uint32 // numbers of groups; 0: not governed
}

func (e *edge) zone() uint32 { return ledger.ZoneBase + uint32(e.number) }

// group is a plan's group and its number.
type group struct {
	*plan.Group
	number uint32
}

func newRenderer(p *plan.NodePlan, n ledger.Numbers, ports Ports, engineUp bool) *renderer {
	r := &renderer{b: &Bundle{}, macs: map[string]string{}, plan: p, numbers: n, ports: ports, engineUp: engineUp}
	for i := range p.Groups {
		g := group{Group: &p.Groups[i], number: r.groupNumber(p.Groups[i].Key)}
		if g.number != 0 {
			r.groups = append(r.groups, g)
		}
	}
	for _, e := range p.Edges {
		r.addEdge(e)
	}
	r.endpoints = numberEndpoints(p.Services)
	r.denials = numberDenials(p.Groups)
	r.asks = r.asksForClients()
	return r
}

func (r *renderer) addEdge(e plan.Edge) {
	ports, attached := r.ports.Edges[e.Pod]
	if !attached {
		return
	}
	number, known := r.numbers.Edges[e.Pod]
	switch {
	case !known || number < ledger.EdgeFirst || number > ledger.EdgeLast:
		r.b.fail("Pod %s has no edge number within %d..%d, so it has no conntrack zone: hand out numbers for the plan before rendering",
			e.Pod, ledger.EdgeFirst, ledger.EdgeLast)
	case len(ports.MAC) != 6 || ports.Pod == 0 || ports.Uplink == 0:
		r.b.fail("Pod %s lacks a port number or its MAC address (pod %d, uplink %d, MAC %q): read the bridge's ports before rendering",
			e.Pod, ports.Pod, ports.Uplink, ports.MAC)
	case r.macs[string(ports.MAC)] != "":
		r.b.fail("Pods %s and %s have one MAC address, %s, by which their packets are told apart after the engine: give one of them another",
			r.macs[string(ports.MAC)], e.Pod, ports.MAC)
	default:
		r.macs[string(ports.MAC)] = e.Pod.String()
		r.edges = append(r.edges, edge{Edge: e, ports: ports, number: number,
			ingress: r.groupNumber(e.Ingress), egress: r.groupNumber(e.Egress)})
	}
}

// groupNumber gives 0 for the empty key, which is what an ungoverned direction has.
func (r *renderer) groupNumber(key string) uint32 {
	if key == "" {
		return 0
	}
	number := r.numbers.Groups[key]
	if number == 0 {
		r.b.fail("group %s has no number: hand out numbers for the plan before rendering", key)
	}
	return number
}

// EpochOf gives the epoch that a group's connections carry. The two lowest values mean something else.
func EpochOf(g *plan.Group) uint32 {
	return max(g.Epoch, epochUngoverned+1)
}

// ipFamilies are the families by their shorthand, for actions that need to know that the packet is IP.
var ipFamilies = [...]string{"ip", "ipv6"}

// family is the shorthand of an address's family.
func family(a netip.Addr) string {
	if a.Is4() {
		return "ip"
	}
	return "ipv6"
}

// transport is a protocol that is judged: by number, by the plan's name, and by shorthand for each family.
type transport struct {
	number    uint32
	protocol  plan.Protocol
	v4, v6    string
	dstOfPort string // the destination port as move actions write it
}

// transports are all of them.
var transports = [...]transport{
	{protoTCP, plan.TCP, "tcp", "tcp6", "NXM_OF_TCP_DST[]"},
	{protoUDP, plan.UDP, "udp", "udp6", "NXM_OF_UDP_DST[]"},
	{protoSCTP, plan.SCTP, "sctp", "sctp6", "OXM_OF_SCTP_DST[]"},
}

// protoNumber gives the value of fieldProto, and 0 for a protocol that is not judged.
func protoNumber(p plan.Protocol) uint32 {
	for _, t := range transports {
		if t.protocol == p {
			return t.number
		}
	}
	return 0
}

// shorthand gives a protocol's name in the family of an address.
func shorthand(p plan.Protocol, a netip.Addr) string {
	for _, t := range transports {
		if t.protocol == p && a.Is4() {
			return t.v4
		}
		if t.protocol == p {
			return t.v6
		}
	}
	return ""
}
