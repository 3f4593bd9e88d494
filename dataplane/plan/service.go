package plan

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// service is a Service with the endpoints that its EndpointSlices tell.
type service struct {
	object    *corev1.Service
	name      types.NamespacedName
	endpoints []endpoint
	// selected are the Pods that its selector selects; empty without a selector.
	selected *podSelection
}

// endpoint is one address and one port that stand behind a port of a Service.
type endpoint struct {
	address  int32 // an id
	protocol int
	portName string // the name of the Service's port
	number   uint16
	ready    bool
	// draining: not ready, since it ends, but still serving. It is used only when none is ready.
	draining bool
	local    bool
}

// slicesByService groups the slices by the Service they belong to.
func slicesByService(all []discoveryv1.EndpointSlice) map[types.NamespacedName][]*discoveryv1.EndpointSlice {
	by := map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	for i := range all {
		if owner := all[i].Labels[discoveryv1.LabelServiceName]; owner != "" {
			name := types.NamespacedName{Namespace: all[i].Namespace, Name: owner}
			by[name] = append(by[name], &all[i])
		}
	}
	return by
}

func (x *index) addServices(objects []corev1.Service, slicesOf map[types.NamespacedName][]*discoveryv1.EndpointSlice) {
	for i := range objects {
		s := &service{
			object:   &objects[i],
			name:     types.NamespacedName{Namespace: objects[i].Namespace, Name: objects[i].Name},
			selected: &podSelection{},
		}
		for _, slice := range slicesOf[s.name] {
			s.endpoints = append(s.endpoints, x.endpoints(slice)...)
		}
		if len(s.object.Spec.Selector) > 0 {
			s.selected = x.selectPods(s.name.Namespace, labels.SelectorFromSet(s.object.Spec.Selector))
		}
		x.services[s.name] = s
		x.serviceNames = append(x.serviceNames, s.name)
	}
	slices.SortFunc(x.serviceNames, compareNames)
}

func (x *index) endpoints(slice *discoveryv1.EndpointSlice) []endpoint {
	var all []endpoint
	for i := range slice.Endpoints {
		object := &slice.Endpoints[i]
		ready := object.Conditions.Ready == nil || *object.Conditions.Ready
		serving := isTrue(object.Conditions.Serving) || (object.Conditions.Serving == nil && ready)
		for _, port := range slice.Ports {
			protocol, ok := protocolNumber(string(valueOf(port.Protocol)))
			if !ok || port.Port == nil || *port.Port < 1 || *port.Port >= portsPerProtocol {
				continue
			}
			for _, a := range endpointAddresses(slice, i) {
				all = append(all, endpoint{
					address: x.addressID[a], protocol: protocol, portName: valueOf(port.Name), number: uint16(*port.Port),
					ready: ready, draining: !ready && serving && isTrue(object.Conditions.Terminating),
					local: x.node == "" || valueOf(object.NodeName) == x.node,
				})
			}
		}
	}
	return all
}

// behind returns the endpoints, ready or not, of one of the Service's ports.
func (s *service) behind(port *corev1.ServicePort) []endpoint {
	protocol, _ := protocolNumber(string(port.Protocol))
	var found []endpoint
	for _, e := range s.endpoints {
		if e.portName == port.Name && e.protocol == protocol {
			found = append(found, e)
		}
	}
	return found
}

// targetsOn returns the numbers of the Pod's ports that one of the Service's ports stands for.
func targetsOn(p *pod, port *corev1.ServicePort) []uint16 {
	if port.TargetPort.Type == intstr.String {
		protocol, _ := protocolNumber(string(port.Protocol))
		return p.namedPort(port.TargetPort.StrVal, protocol)
	}
	return []uint16{fixedTarget(port)}
}

// fixedTarget returns the number of the target port, or 0 when each Pod has its own.
func fixedTarget(port *corev1.ServicePort) uint16 {
	switch {
	case port.TargetPort.Type == intstr.String:
		return 0
	case port.TargetPort.IntVal == 0:
		return uint16(port.Port)
	}
	return uint16(port.TargetPort.IntVal)
}

// servicePorts returns the ports of all Services with a cluster address, with the endpoints that kube-proxy would choose from.
// Headless Services need none, and an ExternalName has none.
// When none of the edges is governed at egress, those suffice that lead an edge's Pod to itself.
func (x *index) servicePorts(edges []Edge) []ServicePort {
	all := []ServicePort{}
	wanted := wantedServices(edges)
	egress := slices.ContainsFunc(edges, func(e Edge) bool { return e.Egress != "" })
	for _, name := range x.serviceNames {
		s := x.services[name]
		addresses := clusterAddresses(s.object)
		if len(addresses) == 0 || s.object.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		for i := range s.object.Spec.Ports {
			port := &s.object.Spec.Ports[i]
			protocol, ok := protocolNumber(string(port.Protocol))
			if !ok {
				continue
			}
			made := ServicePort{
				Service:         name,
				Name:            port.Name,
				Addresses:       addresses,
				Protocol:        protocolName(protocol),
				Port:            uint16(port.Port),
				AffinitySeconds: affinitySeconds(s.object),
				Endpoints:       x.chooseEndpoints(s, port, addresses, valueOf(s.object.Spec.InternalTrafficPolicy) == corev1.ServiceInternalTrafficPolicyLocal),
			}
			if wanted(made.Endpoints) {
				all = append(all, made)
			}
			if egress {
				all = append(all, x.fromOutside(s, port, made)...)
			}
		}
	}
	slices.SortFunc(all, func(a, b ServicePort) int {
		return cmp.Or(compareNames(a.Service, b.Service), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port),
			cmp.Compare(a.Reached, b.Reached))
	})
	return all
}

// affinitySeconds is how long the Service keeps a client; 0: not at all.
func affinitySeconds(s *corev1.Service) int32 {
	if s.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return max(1, *c.ClientIP.TimeoutSeconds)
	}
	return corev1.DefaultClientIPServiceAffinitySeconds
}

// wantedServices tells, by its endpoints, whether a Service's port is resolved at any of the edges.
func wantedServices(edges []Edge) func([]netip.AddrPort) bool {
	own := map[netip.Addr]bool{}
	for _, e := range edges {
		if e.Egress != "" {
			return func([]netip.AddrPort) bool { return true }
		}
		for _, a := range e.Addresses {
			own[a] = e.Hairpin
		}
	}
	return func(endpoints []netip.AddrPort) bool {
		return slices.ContainsFunc(endpoints, func(a netip.AddrPort) bool { return own[a.Addr()] })
	}
}

// markHairpins notes which edges' Pods are endpoints of Services with cluster addresses.
func (x *index) markHairpins(edges []Edge) {
	behind := map[netip.Addr]bool{}
	for _, s := range x.services {
		if len(clusterAddresses(s.object)) == 0 {
			continue
		}
		for _, e := range s.endpoints {
			behind[x.addresses[e.address]] = true
		}
	}
	for i := range edges {
		edges[i].Hairpin = slices.ContainsFunc(edges[i].Addresses, func(a netip.Addr) bool { return behind[a] })
	}
}

// chooseEndpoints takes, of each address family that the Service has, the ready endpoints, or those that drain when there
// are none; where that is asked for, only those on this node.
func (x *index) chooseEndpoints(s *service, port *corev1.ServicePort, cluster []netip.Addr, onlyLocal bool) []netip.AddrPort {
	chosen := []netip.AddrPort{}
	behind := s.behind(port)
	for _, is4 := range []bool{true, false} {
		if !slices.ContainsFunc(cluster, func(a netip.Addr) bool { return a.Is4() == is4 }) {
			continue
		}
		var ready, draining []netip.AddrPort
		for _, e := range behind {
			address := x.addresses[e.address]
			switch {
			case address.Is4() != is4, onlyLocal && !e.local:
			case e.ready:
				ready = append(ready, netip.AddrPortFrom(address, e.number))
			case e.draining:
				draining = append(draining, netip.AddrPortFrom(address, e.number))
			}
		}
		if len(ready) == 0 {
			ready = draining
		}
		chosen = append(chosen, ready...)
	}
	slices.SortFunc(chosen, netip.AddrPort.Compare)
	return slices.Compact(chosen)
}

func clusterAddresses(object *corev1.Service) []netip.Addr {
	texts := object.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{object.Spec.ClusterIP}
	}
	return parseAddresses(texts)
}

// parseAddresses leaves out what is none, and sorts.
func parseAddresses(texts []string) []netip.Addr {
	var addresses []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			addresses = append(addresses, a.Unmap())
		}
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses)
}

func isTrue(b *bool) bool { return b != nil && *b }

// valueOf returns what p points at, or the zero value.
func valueOf[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
