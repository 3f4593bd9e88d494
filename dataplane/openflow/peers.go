package openflow

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// peerPort puts the protocol and the server's port into registers, where ServiceLB has put them already for a chosen endpoint.
func (r *renderer) peerPort() {
	c := cookie(featurePipeline, 0)
	for _, t := range transports {
		for _, name := range [...]string{t.v4, t.v6} {
			r.b.add(tablePeerPort, priorityStep, c, fmt.Sprintf("%s over %s.", t.protocol, familyOfShorthand(name)),
				newMatch(proto(name)), actions(load(fieldProto, t.number), move(t.dstOfPort, fieldPeerPort.name()), gotoTable(tablePeerClass)))
		}
	}
	for _, f := range ipFamilies {
		r.b.add(tablePeerPort, priorityFragmentUDP, c, "Fragments of UDP: the port is not known.", newMatch(proto(f), fragmentUDP),
			actions(load(fieldProto, protoUDP), gotoTable(tablePeerClass)))
	}
	r.b.add(tablePeerPort, priorityMiss, c, "Fragments of other protocols over IPv6.", newMatch(), gotoTable(tableDeliver))
}

// peerClass gives the peer's address its class. Addresses are matched in place, not through registers, so that the datapath
// needs no entry for each of them.
func (r *renderer) peerClass() {
	for _, a := range r.plan.NodeAddresses {
		r.b.add(tablePeerClass, priorityNode, cookie(featureNode, 0),
			fmt.Sprintf("Connections from the node itself at %s (the kubelet's probes) are not governed.", a),
			newMatch(proto(family(a)), is(fieldSource, sourceUplink), srcIn(netip.PrefixFrom(a, a.BitLen()))), gotoTable(tableCommit))
	}
	if r.asks {
		r.nodesAsClients()
	}
	r.hairpinClasses()
	for i := range r.groups {
		g := &r.groups[i]
		for _, p := range g.Peers {
			r.prefix(g, p)
		}
		if g.Direction == plan.Egress {
			r.endpointClasses(g)
		}
	}
	r.b.add(tablePeerClass, priorityMiss, cookie(featurePipeline, 0), "Peers of no class: none comes here.", newMatch(), drop)
}

func (r *renderer) prefix(g *group, p plan.Peer) {
	address, whose, does := srcIn, "Clients", r.toClass(p.Class)
	switch {
	case g.Direction == plan.Egress:
		address, whose = dstIn, "Servers"
	case r.asks:
		does = actions(load(fieldClass, uint32(p.Class)), gotoTable(tableNodeSource))
	}
	r.b.add(tablePeerClass, priorityPrefix+p.Prefix.Bits(), cookie(featureGroup, g.number),
		fmt.Sprintf("%s in %s, for group %s.", whose, p.Prefix, g.Key),
		newMatch(proto(family(p.Prefix.Addr())), is(fieldGroup, g.number), address(p.Prefix)), does)
}

// endpointClasses classes chosen endpoints, which are in a register and not in the packet: one flow for each whose class differs
// from that of addresses that no longer prefix names.
func (r *renderer) endpointClasses(g *group) {
	for _, f := range ipFamilies {
		r.b.add(tablePeerClass, priorityEndpointOther, cookie(featureGroup, g.number),
			fmt.Sprintf("Endpoints that no flow above is for, for group %s.", g.Key),
			newMatch(proto(f), is(fieldGroup, g.number), is(fieldEndpointChosen, 1)), r.toClass(defaultClass(g.Group, f)))
	}
	for _, e := range r.sortedEndpoints() {
		class := classOf(g.Group, e.Addr())
		if class == defaultClass(g.Group, family(e.Addr())) {
			continue
		}
		r.b.add(tablePeerClass, priorityEndpoint, cookie(featureGroup, g.number),
			fmt.Sprintf("Endpoint %s, for group %s.", e, g.Key),
			newMatch(is(fieldGroup, g.number), is(fieldEndpointChosen, 1), is(fieldEndpoint, r.endpoints[e])), r.toClass(class))
	}
}

func (r *renderer) sortedEndpoints() []netip.AddrPort {
	return slices.SortedFunc(maps.Keys(r.endpoints), netip.AddrPort.Compare)
}

// classOf gives the class of the longest prefix that contains the address.
func classOf(g *plan.Group, a netip.Addr) int {
	class, longest := 0, -1
	for _, p := range g.Peers {
		if p.Prefix.Bits() > longest && p.Prefix.Contains(a) {
			class, longest = p.Class, p.Prefix.Bits()
		}
	}
	return class
}

// defaultClass gives the class of the prefix of length 0 of a family.
func defaultClass(g *plan.Group, f string) int {
	for _, p := range g.Peers {
		if p.Prefix.Bits() == 0 && family(p.Prefix.Addr()) == f {
			return p.Class
		}
	}
	return 0
}

func (r *renderer) toClass(class int) string {
	return actions(load(fieldClass, uint32(class)), gotoTable(tablePortVerdict))
}
