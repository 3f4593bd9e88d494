package plan_test

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// naive judges one connection straight from the API objects, by trying everything. It shares no code with Compile.
type naive struct {
	*plan.Snapshot
}

// connection is the question: a Pod, a direction, who is at the other end, and the port.
type connection struct {
	pod       *corev1.Pod
	direction plan.Direction
	peer      netip.Addr
	protocol  plan.Protocol
	port      uint16
}

// answer is what the naive judge says. rules are "policy rule" for each rule with l7 whose entries count.
type answer struct {
	governed        bool
	verdict         plan.Verdict
	audit           bool
	failOpen, reset bool
	policies        []string
	rules           []string
}

func (n naive) judge(c connection) answer {
	a := answer{failOpen: true, verdict: plan.Deny}
	for _, audit := range []bool{false, true} {
		var l4 bool
		for i := range n.L7Policies {
			p := &n.L7Policies[i]
			if (p.Spec.Mode == v1alpha1.ModeAudit) != audit || !n.selects(p, c.pod) || !n.governs(p, c) {
				continue
			}
			a.governed, a.audit = true, audit
			a.policies = append(a.policies, p.Namespace+"/"+p.Name)
			a.failOpen = a.failOpen && (audit || p.Spec.FailurePolicy == v1alpha1.FailOpen)
			a.reset = a.reset || (!audit && p.Spec.DenyAction != v1alpha1.DenyDrop)
			for _, r := range rulesOf(p, c.direction) {
				switch {
				case !n.matches(p, r, c):
				case len(r.l7) == 0:
					l4 = true
				default:
					a.rules = append(a.rules, p.Namespace+"/"+p.Name+" "+r.name)
				}
			}
		}
		if !a.governed {
			continue
		}
		switch {
		case l4:
			a.verdict, a.rules = plan.Allow, nil
		case c.protocol == plan.SCTP && audit:
			a.verdict, a.rules = plan.Allow, nil
		case c.protocol == plan.SCTP:
			a.verdict, a.rules = plan.Deny, nil
		case len(a.rules) > 0 || audit:
			a.verdict = plan.Inspect
		}
		break
	}
	a.reset = a.reset && (a.verdict == plan.Inspect || c.protocol == plan.TCP)
	slices.Sort(a.policies)
	slices.Sort(a.rules)
	return a
}

// eitherRule is a rule of either direction.
type eitherRule struct {
	name  string
	peers []v1alpha1.EgressPeer
	ports []v1alpha1.PolicyPort
	l7    []v1alpha1.L7Match
}

func rulesOf(p *v1alpha1.L7Policy, d plan.Direction) []eitherRule {
	var rules []eitherRule
	if d == plan.Egress {
		for _, r := range p.Spec.Egress {
			rules = append(rules, eitherRule{r.Name, r.To, r.Ports, r.L7})
		}
		return rules
	}
	for _, r := range p.Spec.Ingress {
		var peers []v1alpha1.EgressPeer
		for _, f := range r.From {
			peers = append(peers, v1alpha1.EgressPeer{Peer: f})
		}
		rules = append(rules, eitherRule{r.Name, peers, r.Ports, r.L7})
	}
	return rules
}

func isAlive(p *corev1.Pod) bool {
	return p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed && !p.Spec.HostNetwork &&
		len(p.Status.PodIPs) > 0
}

func (n naive) selects(p *v1alpha1.L7Policy, pod *corev1.Pod) bool {
	return p.Namespace == pod.Namespace && isAlive(pod) && selects(&p.Spec.PodSelector, pod.Labels)
}

func selects(s *metav1.LabelSelector, set map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(set))
}

func (n naive) governs(p *v1alpha1.L7Policy, c connection) bool {
	if c.direction == plan.Ingress && p.Spec.Ingress == nil || c.direction == plan.Egress && p.Spec.Egress == nil {
		return false
	}
	if p.Spec.Scope == v1alpha1.ScopeAllPorts {
		return true
	}
	return slices.ContainsFunc(rulesOf(p, c.direction), func(r eitherRule) bool { return n.names(p, r, c) })
}

// names says whether a rule names the port.
func (n naive) names(p *v1alpha1.L7Policy, r eitherRule, c connection) bool {
	if len(r.ports) == 0 {
		if len(r.peers) == 0 {
			return true
		}
		return slices.ContainsFunc(r.peers, func(peer v1alpha1.EgressPeer) bool {
			return peer.Service == nil || n.serviceHas(p, peer.Service, netip.Addr{}, c)
		})
	}
	for _, spec := range r.ports {
		if protocolOf(string(spec.Protocol)) != c.protocol {
			continue
		}
		if !isNamed(spec) {
			if inRange(spec, c.port) {
				return true
			}
			continue
		}
		if c.direction == plan.Ingress {
			if hasNamed(c.pod, spec, c.port) {
				return true
			}
			continue
		}
		for i := range n.Pods {
			pod := &n.Pods[i]
			if !isAlive(pod) || !hasNamed(pod, spec, c.port) {
				continue
			}
			for _, ip := range pod.Status.PodIPs {
				at := c
				at.peer = netip.MustParseAddr(ip.IP)
				if n.peersHold(p, r, at) {
					return true
				}
			}
		}
	}
	return false
}

// matches says whether a rule allows the connection at L4.
func (n naive) matches(p *v1alpha1.L7Policy, r eitherRule, c connection) bool {
	portHolds := len(r.ports) == 0
	for _, spec := range r.ports {
		if protocolOf(string(spec.Protocol)) != c.protocol {
			continue
		}
		switch {
		case !isNamed(spec):
			portHolds = portHolds || inRange(spec, c.port)
		case c.direction == plan.Ingress:
			portHolds = portHolds || hasNamed(c.pod, spec, c.port)
		default:
			for i := range n.Pods {
				portHolds = portHolds || hasAddress(&n.Pods[i], c.peer) && hasNamed(&n.Pods[i], spec, c.port)
			}
		}
	}
	return portHolds && n.peersHold(p, r, c)
}

func (n naive) peersHold(p *v1alpha1.L7Policy, r eitherRule, c connection) bool {
	if len(r.peers) == 0 {
		return true
	}
	return slices.ContainsFunc(r.peers, func(peer v1alpha1.EgressPeer) bool {
		switch {
		case peer.Service != nil:
			return n.serviceHas(p, peer.Service, c.peer, c)
		case peer.IPBlock != nil:
			return netip.MustParsePrefix(peer.IPBlock.CIDR).Contains(c.peer) &&
				!slices.ContainsFunc(peer.IPBlock.Except, func(e string) bool { return netip.MustParsePrefix(e).Contains(c.peer) })
		}
		return slices.ContainsFunc(n.Pods, func(pod corev1.Pod) bool {
			if !hasAddress(&pod, c.peer) || peer.PodSelector != nil && !selects(peer.PodSelector, pod.Labels) {
				return false
			}
			if peer.NamespaceSelector == nil {
				return pod.Namespace == p.Namespace
			}
			return slices.ContainsFunc(n.Namespaces, func(ns corev1.Namespace) bool {
				return ns.Name == pod.Namespace && selects(peer.NamespaceSelector, ns.Labels)
			})
		})
	})
}

// serviceHas says whether a Service has an endpoint at the address and port. Without an address, any will do, or a target port.
func (n naive) serviceHas(p *v1alpha1.L7Policy, peer *v1alpha1.ServicePeer, at netip.Addr, c connection) bool {
	for _, s := range n.Services {
		if s.Name != peer.Name || s.Namespace != peer.Namespace && (peer.Namespace != "" || s.Namespace != p.Namespace) {
			continue
		}
		for _, port := range s.Spec.Ports {
			if peer.Port != nil && peer.Port.Type == intstr.Int && peer.Port.IntVal != port.Port ||
				peer.Port != nil && peer.Port.Type == intstr.String && peer.Port.StrVal != port.Name ||
				protocolOf(string(port.Protocol)) != c.protocol {
				continue
			}
			if !at.IsValid() && port.TargetPort.Type == intstr.Int && port.TargetPort.IntVal == int32(c.port) && len(s.Spec.Selector) > 0 {
				return true
			}
			if slices.ContainsFunc(n.EndpointSlices, func(slice discoveryv1.EndpointSlice) bool {
				return slice.Namespace == s.Namespace && slice.Labels[discoveryv1.LabelServiceName] == s.Name &&
					sliceHas(&slice, &port, at, c.port)
			}) {
				return true
			}
		}
	}
	return false
}

func sliceHas(slice *discoveryv1.EndpointSlice, port *corev1.ServicePort, at netip.Addr, number uint16) bool {
	return slices.ContainsFunc(slice.Ports, func(have discoveryv1.EndpointPort) bool {
		return *have.Name == port.Name && *have.Protocol == port.Protocol && *have.Port == int32(number)
	}) && slices.ContainsFunc(slice.Endpoints, func(e discoveryv1.Endpoint) bool {
		return !at.IsValid() || slices.Contains(e.Addresses, at.String())
	})
}

func protocolOf(p string) plan.Protocol {
	if p == "" {
		return plan.TCP
	}
	return plan.Protocol(p)
}

func isNamed(s v1alpha1.PolicyPort) bool { return s.Port != nil && s.Port.Type == intstr.String }

func inRange(s v1alpha1.PolicyPort, port uint16) bool {
	if s.Port == nil {
		return true
	}
	last := s.Port.IntVal
	if s.EndPort != nil {
		last = *s.EndPort
	}
	return s.Port.IntVal <= int32(port) && int32(port) <= last
}

func hasNamed(pod *corev1.Pod, s v1alpha1.PolicyPort, port uint16) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(have corev1.ContainerPort) bool {
			return have.Name == s.Port.StrVal && protocolOf(string(have.Protocol)) == protocolOf(string(s.Protocol)) &&
				have.ContainerPort == int32(port)
		})
	})
}

func hasAddress(pod *corev1.Pod, a netip.Addr) bool {
	return isAlive(pod) && slices.ContainsFunc(pod.Status.PodIPs, func(ip corev1.PodIP) bool { return ip.IP == a.String() })
}
