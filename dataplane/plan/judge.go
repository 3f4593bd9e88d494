package plan

import (
	"net/netip"
	"slices"
)

// Judge tells what the plan says about a new connection: of a Pod that group governs, with peer at the other end, to a port
// (at ingress the Pod's, at egress the peer's; with Services resolved to endpoints). It is the reference for what flows do.
// It returns false when the group does not govern the connection, or is not in the plan: then it passes.
func (p *NodePlan) Judge(group string, peer netip.Addr, protocol Protocol, port uint16) (PortVerdict, bool) {
	i := slices.IndexFunc(p.Groups, func(g Group) bool { return g.Key == group })
	if i < 0 {
		return PortVerdict{}, false
	}
	if p.Groups[i].Direction == Ingress && slices.Contains(p.NodeAddresses, peer.Unmap()) {
		return PortVerdict{}, false
	}
	return p.Groups[i].Judge(peer, protocol, port)
}

// Judge is NodePlan.Judge without the exception for the node's own addresses.
func (g *Group) Judge(peer netip.Addr, protocol Protocol, port uint16) (PortVerdict, bool) {
	for _, v := range g.Classes[g.ClassOf(peer)] {
		if v.Protocol == protocol && v.Port <= port && port <= v.EndPort {
			return v, true
		}
	}
	return PortVerdict{}, false
}

// ClassOf returns the class of a peer's address: that of the longest prefix that contains it.
func (g *Group) ClassOf(peer netip.Addr) int {
	peer = peer.Unmap().WithZone("")
	class, bits := 0, -1
	for _, p := range g.Peers {
		if p.Prefix.Bits() > bits && p.Prefix.Contains(peer) {
			class, bits = p.Class, p.Prefix.Bits()
		}
	}
	return class
}

// RuleSet returns the rule set of that key, or nil.
func (p *NodePlan) RuleSet(key string) *RuleSet {
	for i := range p.RuleSets {
		if p.RuleSets[i].Key == key {
			return &p.RuleSets[i]
		}
	}
	return nil
}

// Group returns the group of that key, or nil.
func (p *NodePlan) Group(key string) *Group {
	for i := range p.Groups {
		if p.Groups[i].Key == key {
			return &p.Groups[i]
		}
	}
	return nil
}
