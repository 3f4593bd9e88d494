package plan

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// fromOutside gives the ways to a Service's port that are meant for clients outside of the cluster: external IPs, load balancers'
// addresses, node ports. Pods may use them, too, and kube-proxy sends them straight to any endpoint, whatever externalTrafficPolicy
// says. Were that left to kube-proxy, a Pod that is governed at egress could reach by a node's address what it may not reach by the Pod's.
func (x *index) fromOutside(s *service, port *corev1.ServicePort, inside ServicePort) []ServicePort {
	made := inside
	made.Endpoints = x.chooseEndpoints(s, port, inside.Addresses, false)
	var all []ServicePort
	if addresses := externalAddresses(s.object); len(addresses) > 0 {
		made.Reached, made.Addresses = ByExternalIP, addresses
		all = append(all, made)
	}
	if port.NodePort > 0 {
		made.Reached, made.Addresses, made.Port = ByNodePort, []netip.Addr{}, uint16(port.NodePort)
		all = append(all, made)
	}
	return all
}

// externalAddresses are a Service's external IPs and those of its load balancers that kube-proxy answers for. It does not for those of
// mode Proxy, whose clients come back as the load balancer; and where it lets only some clients pass (loadBalancerSourceRanges), it
// must be asked.
func externalAddresses(object *corev1.Service) []netip.Addr {
	texts := slices.Clone(object.Spec.ExternalIPs)
	for _, at := range object.Status.LoadBalancer.Ingress {
		if valueOf(at.IPMode) != corev1.LoadBalancerIPModeProxy && len(object.Spec.LoadBalancerSourceRanges) == 0 {
			texts = append(texts, at.IP)
		}
	}
	return parseAddresses(texts)
}

// nodePortAddresses are where node ports are reached, as far as they are known: all nodes' own addresses, and whatever address this node
// has. Which of them kube-proxy takes is a setting of its own.
func nodePortAddresses(s *Snapshot, services []ServicePort, own []netip.Addr) []netip.Addr {
	if !slices.ContainsFunc(services, func(s ServicePort) bool { return s.Reached == ByNodePort }) {
		return nil
	}
	var texts []string
	for i := range s.Nodes {
		for _, a := range s.Nodes[i].Status.Addresses {
			texts = append(texts, a.Address)
		}
	}
	all := append(parseAddresses(texts), own...)
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// ServiceAt finds the Service that is reached at an address and port; nil when there is none.
func (p *NodePlan) ServiceAt(protocol Protocol, at netip.AddrPort) *ServicePort {
	for i := range p.Services {
		s := &p.Services[i]
		addresses := s.Addresses
		if s.Reached == ByNodePort {
			addresses = p.NodePortAddresses
		}
		if s.Protocol == protocol && s.Port == at.Port() && slices.Contains(addresses, at.Addr()) {
			return s
		}
	}
	return nil
}
