package verdict

import (
	"net"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Directory says what the numbers in flows and rules, and the addresses in packets, stand for. It is made anew at each sync
// and never changed.
type Directory struct {
	pods     map[netip.Addr]string
	services map[netip.AddrPort]string
	// nodes are the addresses at which node ports are, and nodePorts the Services by port.
	nodes     map[netip.Addr]bool
	nodePorts map[uint16]string
	ruleSets  map[uint16]*plan.RuleSet
	denials   map[uint32]Denial
	macs      map[string]net.HardwareAddr
	plan      *plan.NodePlan
	// frontends are the addresses of Services over TCP, by endpoint.
	frontends func() map[netip.AddrPort][]netip.AddrPort
}

// Denial is what a number that the flows wrote into a denied packet's copy stands for.
type Denial struct {
	Policies  []string
	Direction plan.Direction
	// Reset asks for TCP resets to both ends.
	Reset bool
	// Full tells that no policy denied the connection: the switch had no room for it.
	Full bool
}

// NewDirectory makes the directory of what a node has programmed, with the names of Pods and of the peers that slices tell of. macs are
// the interposed Pods', by "namespace/name".
func NewDirectory(pods []corev1.Pod, peers []v1alpha1.AddressSlice, p *plan.NodePlan, n ledger.Numbers, denials map[uint32]Denial,
	macs map[string]net.HardwareAddr) *Directory {
	d := &Directory{
		pods:     make(map[netip.Addr]string, len(pods)),
		services: map[netip.AddrPort]string{}, nodes: map[netip.Addr]bool{}, nodePorts: map[uint16]string{},
		ruleSets: make(map[uint16]*plan.RuleSet, len(p.RuleSets)),
		denials:  denials,
		macs:     macs,
		plan:     p,
		// Asked for only after a switch has lost its connections.
		frontends: sync.OnceValue(func() map[netip.AddrPort][]netip.AddrPort { return frontends(p) }),
	}
	for i := range peers {
		for k := range peers[i].Peers {
			peer := &peers[i].Peers[k]
			for _, text := range peer.Addresses {
				if a, err := netip.ParseAddr(text); err == nil {
					d.pods[a.Unmap()] = peer.Namespace + "/" + peer.Name
				}
			}
		}
	}
	for i := range pods { // these know better
		if pods[i].Spec.HostNetwork {
			continue // its address is the node's
		}
		for _, ip := range pods[i].Status.PodIPs {
			if a, err := netip.ParseAddr(ip.IP); err == nil {
				d.pods[a] = pods[i].Namespace + "/" + pods[i].Name
			}
		}
	}
	for _, a := range p.NodePortAddresses {
		d.nodes[a] = true
	}
	for _, s := range p.Services {
		if s.Reached == plan.ByNodePort {
			d.nodePorts[s.Port] = s.Service.String()
		}
		for _, a := range s.Addresses {
			d.services[netip.AddrPortFrom(a, s.Port)] = s.Service.String()
		}
	}
	for i := range p.RuleSets {
		if id, ok := n.RuleSets[p.RuleSets[i].Key]; ok {
			d.ruleSets[id] = &p.RuleSets[i]
		}
	}
	return d
}

func (d *Directory) pod(a netip.AddrPort) Peer { return Peer{Address: a, Name: d.pods[a.Addr()]} }

// client gives the client of a connection to a server. One that the server sees by the hairpin address is the server's own Pod.
func (d *Directory) client(client, server netip.AddrPort) Peer {
	if ledger.IsHairpin(client.Addr()) {
		client = netip.AddrPortFrom(server.Addr(), client.Port())
	}
	return d.pod(client)
}

// Behind gives the client that hides behind what a packet carried as its client's address.
func (d *Directory) Behind(carried Peer, client netip.AddrPort) Peer {
	p := d.pod(client)
	p.Via = carried.Address
	return p
}

func (d *Directory) service(a netip.AddrPort) *Peer {
	if !a.IsValid() {
		return nil
	}
	name, known := d.services[a]
	if !known && d.nodes[a.Addr()] {
		name = d.nodePorts[a.Port()]
	}
	return &Peer{Address: a, Name: name}
}

// Denial tells what a denial's number stands for.
func (d *Directory) Denial(number uint32) (Denial, bool) {
	denial, ok := d.denials[number]
	return denial, ok
}

// MAC gives the address of the interposed Pod that has an IP address; nil when there is none.
func (d *Directory) MAC(a netip.Addr) net.HardwareAddr { return d.macs[d.pods[a]] }

// Judge tells what a governed Pod's policies say, in a direction, of TCP connections of a peer: to the Pod's port for ingress, to the
// peer's for egress. What they say nothing of is allowed. It gives false when there is no such Pod here.
func (d *Directory) Judge(direction plan.Direction, pod, peer netip.Addr, port uint16) (plan.PortVerdict, bool) {
	for i := range d.plan.Edges {
		e := &d.plan.Edges[i]
		if !slices.Contains(e.Addresses, pod) {
			continue
		}
		group := e.Ingress
		if direction == plan.Egress {
			group = e.Egress
		}
		v, governed := d.plan.Judge(group, peer, plan.TCP, port)
		if !governed {
			v = plan.PortVerdict{Verdict: plan.Allow}
		}
		return v, true
	}
	return plan.PortVerdict{}, false
}

// Resets tells whether both ends of a connection that the rule set with this InspectionID denies are to get a TCP reset.
func (d *Directory) Resets(id uint16) bool {
	set := d.ruleSets[id]
	return set != nil && set.Reset && !set.Audit
}

// Ends names the two ends of a connection.
func (d *Directory) Ends(client, server netip.AddrPort) (from, to Peer) {
	return d.client(client, server), d.pod(server)
}

// Pod gives the "namespace/name" of the Pod at an address; empty for none.
func (d *Directory) Pod(a netip.Addr) string { return d.pods[a] }

// Service names the Service at an address; nil when the address is not valid.
func (d *Directory) Service(a netip.AddrPort) *Peer { return d.service(a) }
