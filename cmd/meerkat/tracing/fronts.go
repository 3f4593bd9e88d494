package tracing

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// front is what answers at an address that no Pod has: a Service's port, or that of a Pod at its node's address (hostPort).
type front struct {
	service *corev1.Service
	port    *corev1.ServicePort
	// outside tells of a Service's address that is meant for clients outside of the cluster: external IP, load balancer, node port.
	outside bool
	// pod has the hostPort, of which inside is its own port.
	pod    *corev1.Pod
	inside uint16
	// node is the one whose address it is: it translates. It is empty for addresses that every node translates.
	node string
}

func (f *front) String() string {
	if f.pod != nil {
		return "hostPort of " + nameOf(f.pod).String()
	}
	return fmt.Sprintf("Service %s/%s", f.service.Namespace, f.service.Name)
}

// front finds what is at an address; nil for nothing that is known.
func (o objects) front(at netip.AddrPort, protocol plan.Protocol) *front {
	node := o.nodeAt(at.Addr())
	for i := range o.Services {
		s := &o.Services[i]
		for j := range s.Spec.Ports {
			p := &s.Spec.Ports[j]
			switch own := uint16(p.Port) == at.Port(); { //nolint:gosec // a port
			case protocolOf(p.Protocol) != protocol:
			case own && slices.Contains(parsed(s.Spec.ClusterIPs), at.Addr()):
				return &front{service: s, port: p}
			case own && slices.Contains(outsideAddresses(s), at.Addr()):
				return &front{service: s, port: p, outside: true}
			case node != "" && p.NodePort > 0 && uint16(p.NodePort) == at.Port(): //nolint:gosec // a port
				return &front{service: s, port: p, outside: true, node: node}
			}
		}
	}
	return o.hostPort(at, protocol, node)
}

// hostPort finds the Pod whose port is reached at a node's address.
func (o objects) hostPort(at netip.AddrPort, protocol plan.Protocol, node string) *front {
	for i := range o.Pods {
		p := &o.Pods[i]
		if p.Spec.NodeName != node || node == "" || p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for j := range p.Spec.Containers {
			for _, port := range p.Spec.Containers[j].Ports {
				there := port.HostIP == "" || port.HostIP == at.Addr().String() || slices.Contains([]string{"0.0.0.0", "::"}, port.HostIP)
				if there && uint16(port.HostPort) == at.Port() && protocolOf(port.Protocol) == protocol { //nolint:gosec // a port
					return &front{pod: p, inside: uint16(port.ContainerPort), node: node} //nolint:gosec // a port
				}
			}
		}
	}
	return nil
}

// nodeAt gives the node that has an address; "" for none.
func (o objects) nodeAt(at netip.Addr) string {
	for i := range o.Nodes {
		for _, a := range o.Nodes[i].Status.Addresses {
			if have, err := netip.ParseAddr(a.Address); err == nil && have.Unmap() == at {
				return o.Nodes[i].Name
			}
		}
	}
	return ""
}

// outsideAddresses are those at which nodes answer for a Service's clients outside of the cluster, under its own port.
func outsideAddresses(s *corev1.Service) []netip.Addr {
	texts := slices.Clone(s.Spec.ExternalIPs)
	for _, in := range s.Status.LoadBalancer.Ingress {
		if value(in.IPMode) != corev1.LoadBalancerIPModeProxy {
			texts = append(texts, in.IP)
		}
	}
	return parsed(texts)
}

func parsed(texts []string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			all = append(all, a.Unmap())
		}
	}
	return all
}

// choices gives the endpoints that a client on a node may get (on none: one outside of the cluster), and the node that translates, as far as
// that is known. Clients on the node that translates get any, as kube-proxy has it, whatever externalTrafficPolicy says.
func (o objects) choices(f *front, six bool, node string) (all []netip.AddrPort, translates string) {
	if f.pod != nil {
		for _, a := range podAddresses(f.pod) {
			if a.Is6() == six {
				all = append(all, netip.AddrPortFrom(a, f.inside))
			}
		}
		return all, f.node
	}
	translates = f.node
	if translates == "" {
		translates = node
	}
	local := f.service.Spec.InternalTrafficPolicy != nil && *f.service.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	if f.outside {
		local = f.service.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal && (node == "" || translates != node)
	}
	if local {
		return o.endpoints(f.service, f.port, six, translates), translates
	}
	return o.endpoints(f.service, f.port, six, ""), translates
}
