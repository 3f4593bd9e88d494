package conformance

import (
	"slices"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// l7Policy writes a NetworkPolicy as the L7Policy that is equal to it: one for all ports, whose rules look at no payload.
func l7Policy(np *networkingv1.NetworkPolicy) *v1alpha1.L7Policy {
	p := &v1alpha1.L7Policy{}
	p.APIVersion, p.Kind = v1alpha1.GroupVersion.String(), "L7Policy"
	p.Namespace, p.Name = np.Namespace, np.Name
	p.Spec.PodSelector = np.Spec.PodSelector
	p.Spec.Scope = v1alpha1.ScopeAllPorts
	if isolates(np, networkingv1.PolicyTypeIngress) {
		p.Spec.Ingress = []v1alpha1.IngressRule{} // empty: everything is denied; nil: nothing is
		for _, r := range np.Spec.Ingress {
			p.Spec.Ingress = append(p.Spec.Ingress, v1alpha1.IngressRule{From: peers(r.From), Ports: ports(r.Ports)})
		}
	}
	if isolates(np, networkingv1.PolicyTypeEgress) {
		p.Spec.Egress = []v1alpha1.EgressRule{}
		for _, r := range np.Spec.Egress {
			p.Spec.Egress = append(p.Spec.Egress, v1alpha1.EgressRule{To: egressPeers(r.To), Ports: ports(r.Ports)})
		}
	}
	return p
}

// isolates tells whether a NetworkPolicy governs a direction: what policyTypes says, or else what the API server makes of its absence.
func isolates(np *networkingv1.NetworkPolicy, direction networkingv1.PolicyType) bool {
	if len(np.Spec.PolicyTypes) > 0 {
		return slices.Contains(np.Spec.PolicyTypes, direction)
	}
	return direction == networkingv1.PolicyTypeIngress || len(np.Spec.Egress) > 0
}

func peers(from []networkingv1.NetworkPolicyPeer) (all []v1alpha1.Peer) {
	for _, p := range from {
		peer := v1alpha1.Peer{PodSelector: p.PodSelector, NamespaceSelector: p.NamespaceSelector}
		if p.IPBlock != nil {
			peer.IPBlock = &v1alpha1.IPBlock{CIDR: p.IPBlock.CIDR, Except: p.IPBlock.Except}
		}
		all = append(all, peer)
	}
	return all
}

func egressPeers(to []networkingv1.NetworkPolicyPeer) (all []v1alpha1.EgressPeer) {
	for _, p := range peers(to) {
		all = append(all, v1alpha1.EgressPeer{Peer: p})
	}
	return all
}

func ports(of []networkingv1.NetworkPolicyPort) (all []v1alpha1.PolicyPort) {
	for _, p := range of {
		port := v1alpha1.PolicyPort{Port: p.Port, EndPort: p.EndPort}
		if p.Protocol != nil {
			port.Protocol = v1alpha1.Protocol(*p.Protocol)
		}
		all = append(all, port)
	}
	return all
}
