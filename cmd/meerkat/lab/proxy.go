package lab

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
)

// serviceMaps is what kube-proxy on the lab's nodes works from: every Service port with its endpoints, those that are ready, or
// when none is, those that still serve while they terminate.
func (c *cluster) serviceMaps() []network.ServiceMap {
	all := endpointSlices(sorted(c.services), sorted(c.pods), sorted(c.slices))
	var maps []network.ServiceMap
	for _, svc := range sorted(c.services) {
		if svc.Spec.ClusterIP == corev1.ClusterIPNone || svc.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		for _, p := range svc.Spec.Ports {
			maps = append(maps, network.ServiceMap{
				Name:              svc.Namespace + "/" + svc.Name + ":" + p.Name,
				Protocol:          string(p.Protocol),
				Port:              uint16(p.Port),
				NodePort:          uint16(p.NodePort),
				Addresses:         parseAddresses(svc.Spec.ClusterIPs),
				ExternalAddresses: externalAddresses(&svc),
				Affinity:          affinityOf(&svc),
				InternalLocal:     svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
				ExternalLocal:     svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
				Endpoints:         endpointsOf(&svc, p, all),
			})
		}
	}
	return maps
}

// externalAddresses are those of a Service's load balancers and its external IPs.
func externalAddresses(svc *corev1.Service) []netip.Addr {
	all := parseAddresses(svc.Spec.ExternalIPs)
	for _, at := range svc.Status.LoadBalancer.Ingress {
		all = append(all, parseAddresses([]string{at.IP})...)
	}
	return all
}

// affinityOf is how long a Service keeps a client; 0: it does not.
func affinityOf(svc *corev1.Service) time.Duration {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	return time.Duration(*svc.Spec.SessionAffinityConfig.ClientIP.TimeoutSeconds) * time.Second
}

// hostPortMaps are the Pods' host ports, which lead to the Pod from its own node alone: what the CNI plugin portmap does.
func (c *cluster) hostPortMaps() []network.ServiceMap {
	var maps []network.ServiceMap
	for _, pod := range sorted(c.pods) {
		if pod.Spec.HostNetwork {
			continue
		}
		for _, p := range containerPorts(&pod) {
			if p.HostPort == 0 {
				continue
			}
			m := network.ServiceMap{
				Name: pod.Namespace + "/" + pod.Name + ": host port", Protocol: string(orTCP(p.Protocol)), NodePort: uint16(p.HostPort), ExternalLocal: true,
			}
			for _, ip := range pod.Status.PodIPs {
				for _, a := range parseAddresses([]string{ip.IP}) {
					m.Endpoints = append(m.Endpoints, network.Endpoint{AddrPort: netip.AddrPortFrom(a, uint16(p.ContainerPort)), Node: pod.Spec.NodeName})
				}
			}
			maps = append(maps, m)
		}
	}
	return maps
}

// announcements tell to which node the underlay sends what is for a Service's external addresses: the first; with the external traffic
// policy Local the first that has an endpoint.
func (c *cluster) announcements() map[netip.Addr]string {
	to := map[netip.Addr]string{}
	for _, m := range c.serviceMaps() {
		for _, a := range m.ExternalAddresses {
			if m.ExternalLocal {
				if at := slices.IndexFunc(c.nodes, func(node string) bool {
					return slices.ContainsFunc(m.Endpoints, func(e network.Endpoint) bool { return e.Node == node })
				}); at >= 0 {
					to[a] = c.nodes[at]
				}
			} else if to[a] == "" {
				to[a] = c.nodes[0]
			}
		}
	}
	return to
}

func endpointsOf(svc *corev1.Service, port corev1.ServicePort, all []discoveryv1.EndpointSlice) []network.Endpoint {
	var found, draining []network.Endpoint
	for _, s := range all {
		if s.Namespace != svc.Namespace || s.Labels[discoveryv1.LabelServiceName] != svc.Name {
			continue
		}
		for _, p := range s.Ports {
			if p.Port == nil || (p.Name != nil && *p.Name != port.Name) {
				continue
			}
			if p.Protocol != nil && *p.Protocol != port.Protocol {
				continue
			}
			found = append(found, endpointsAt(s.Endpoints, uint16(*p.Port), isReadyEndpoint)...)
			draining = append(draining, endpointsAt(s.Endpoints, uint16(*p.Port), isDraining)...)
		}
	}
	if len(found) == 0 {
		return draining
	}
	return found
}

func isReadyEndpoint(c discoveryv1.EndpointConditions) bool { return c.Ready == nil || *c.Ready }

func isDraining(c discoveryv1.EndpointConditions) bool {
	return c.Serving != nil && *c.Serving && c.Terminating != nil && *c.Terminating
}

func endpointsAt(endpoints []discoveryv1.Endpoint, port uint16, usable func(discoveryv1.EndpointConditions) bool) []network.Endpoint {
	var found []network.Endpoint
	for _, e := range endpoints {
		if !usable(e.Conditions) {
			continue
		}
		for _, a := range parseAddresses(e.Addresses) {
			endpoint := network.Endpoint{AddrPort: netip.AddrPortFrom(a, port)}
			if e.NodeName != nil {
				endpoint.Node = *e.NodeName
			}
			found = append(found, endpoint)
		}
	}
	return found
}

func parseAddresses(texts []string) []netip.Addr {
	var all []netip.Addr
	for _, t := range texts {
		if a, err := netip.ParseAddr(t); err == nil {
			all = append(all, a)
		}
	}
	return all
}
