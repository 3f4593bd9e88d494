package tracing

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// endpoint is a server behind a Service.
type endpoint struct {
	address netip.AddrPort
	node    string
	ready   bool
	ending  bool
}

// endpoints gives those to which new connections to a Service's port go: the ready ones, or those that still serve when none is. With a
// node, those of the node only.
func (o objects) endpoints(s *corev1.Service, port *corev1.ServicePort, six bool, node string) []netip.AddrPort {
	var all []endpoint
	for i := range o.EndpointSlices {
		slice := &o.EndpointSlices[i]
		if slice.Namespace != s.Namespace || slice.Labels[discoveryv1.LabelServiceName] != s.Name {
			continue
		}
		for _, p := range slice.Ports {
			if p.Port == nil || value(p.Name) != port.Name || protocolOf(value(p.Protocol)) != protocolOf(port.Protocol) {
				continue
			}
			all = append(all, addressed(slice, uint16(*p.Port), six)...)
		}
	}
	if node != "" {
		all = slices.DeleteFunc(all, func(e endpoint) bool { return e.node != node })
	}
	ready := slices.ContainsFunc(all, func(e endpoint) bool { return e.ready })
	var use []netip.AddrPort
	for _, e := range all {
		if e.ready || !ready && e.ending {
			use = append(use, e.address)
		}
	}
	slices.SortFunc(use, netip.AddrPort.Compare)
	return slices.Compact(use)
}

func addressed(slice *discoveryv1.EndpointSlice, port uint16, six bool) []endpoint {
	var all []endpoint
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		ready := e.Conditions.Ready == nil || *e.Conditions.Ready
		serving := value(e.Conditions.Serving) || e.Conditions.Serving == nil && ready
		for _, text := range e.Addresses {
			a, err := netip.ParseAddr(text)
			if err == nil && a.Unmap().Is6() == six {
				all = append(all, endpoint{netip.AddrPortFrom(a.Unmap(), port), value(e.NodeName), ready, serving && value(e.Conditions.Terminating)})
			}
		}
	}
	return all
}
