package plan

import (
	"cmp"
	"maps"
	"slices"
)

// resolveEgress works out what a rule of egress allows, and which ports it names. All ports are the destination's: a name is
// looked up on each Pod that the peers hold, and a Service's port stands for its endpoints' ports.
//
// A port that has a name is governed towards every destination, with all the numbers that the name stands for on the peers.
func (r *rule) resolveEgress(x *index) {
	fixed := r.fixedPorts()
	single := map[portRange][]int32{} // the addresses that a single port is allowed on
	names := slices.Clone(fixed)
	if r.peers.onlyServices {
		if r.everyPort {
			names = nil
		}
	} else {
		r.clauses = append(r.clauses, clause{fixed, r.peers.addresses, r.peers.blocks})
		r.allowNames(x, single)
	}
	r.allowServices(x, fixed, single)
	for _, port := range slices.SortedFunc(maps.Keys(single), func(a, b portRange) int { return cmp.Compare(a.lo, b.lo) }) {
		names = append(names, port)
		if addresses := sortedUnique(single[port]); len(addresses) > 0 {
			r.clauses = append(r.clauses, clause{ports: portSet{port}, addresses: addresses})
		}
	}
	r.names = newPortSet(names)
}

// fixedPorts are the ports that the rule names by number, or all when it names none.
func (r *rule) fixedPorts() portSet {
	if r.everyPort {
		return everyPort()
	}
	var ranges []portRange
	for _, s := range r.ports {
		if s.name == "" {
			ranges = append(ranges, s.ports)
		}
	}
	return newPortSet(ranges)
}

// allowNames looks the rule's named ports up on the Pods that its peers hold.
func (r *rule) allowNames(x *index, single map[portRange][]int32) {
	if !slices.ContainsFunc(r.ports, func(s portSpec) bool { return s.name != "" }) {
		return
	}
	for id, addresses := range r.peerPods(x) {
		for _, s := range r.ports {
			if s.name == "" {
				continue
			}
			for _, n := range x.pods[id].namedPort(s.name, s.protocol) {
				port := onePort(s.protocol, n)
				single[port] = append(single[port], addresses...)
			}
		}
	}
}

// peerPods yields the Pods that the rule's peers hold, Services aside, with the ids of those of their addresses that they hold.
func (r *rule) peerPods(x *index) func(yield func(int32, []int32) bool) {
	return func(yield func(int32, []int32) bool) {
		for _, id := range r.peers.pods {
			if !yield(id, x.pods[id].addresses) {
				return
			}
		}
		if len(r.peers.blocks) == 0 {
			return
		}
		for id := range x.pods {
			var addresses []int32
			for _, a := range x.pods[id].addresses {
				if slices.ContainsFunc(r.peers.blocks, func(b block) bool { return b.contains(x.addresses[a]) }) {
					addresses = append(addresses, a)
				}
			}
			if len(addresses) > 0 && !yield(int32(id), addresses) {
				return
			}
		}
	}
}

// allowServices allows the endpoints of the rule's Services. Where the rule also has ports, only those endpoints whose port is
// one of them.
func (r *rule) allowServices(x *index, fixed portSet, single map[portRange][]int32) {
	for _, peer := range r.peers.services {
		for _, e := range peer.service.behind(peer.port) {
			port := onePort(e.protocol, e.number)
			if r.everyPort || fixed.contains(port) || r.namesOn(x, e) {
				single[port] = append(single[port], e.address)
			}
		}
		// While a Service has no endpoints, its port stays governed, as far as its number is known.
		if n := fixedTarget(peer.port); r.everyPort && n != 0 && len(peer.service.object.Spec.Selector) > 0 {
			protocol, _ := protocolNumber(string(peer.port.Protocol))
			port := onePort(protocol, n)
			single[port] = append(single[port], nil...)
		}
	}
}

// namesOn says whether one of the rule's named ports is the endpoint's, on the Pod that has its address.
func (r *rule) namesOn(x *index, e endpoint) bool {
	for _, id := range x.owners[e.address] {
		for _, s := range r.ports {
			if s.name != "" && s.protocol == e.protocol && slices.Contains(x.pods[id].namedPort(s.name, s.protocol), e.number) {
				return true
			}
		}
	}
	return false
}
