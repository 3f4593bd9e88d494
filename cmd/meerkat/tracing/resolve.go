package tracing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// objects finds things in a snapshot.
type objects struct{ *plan.Snapshot }

func (o objects) pod(name types.NamespacedName) (*corev1.Pod, error) {
	for i := range o.Pods {
		if p := &o.Pods[i]; p.Namespace == name.Namespace && p.Name == name.Name {
			if len(podAddresses(p)) == 0 && !p.Spec.HostNetwork {
				return nil, fmt.Errorf("the Pod %s has no address yet", name)
			}
			return p, nil
		}
	}
	return nil, fmt.Errorf("there is no Pod %s", name)
}

// at gives the Pod with an address of its own; nil when there is none.
func (o objects) at(a netip.Addr) *corev1.Pod {
	for i := range o.Pods {
		p := &o.Pods[i]
		over := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		if !p.Spec.HostNetwork && !over && slices.Contains(podAddresses(p), a) {
			return p
		}
	}
	return nil
}

func podAddresses(p *corev1.Pod) []netip.Addr {
	var all []netip.Addr
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			all = append(all, a.Unmap())
		}
	}
	if a, err := netip.ParseAddr(p.Status.PodIP); err == nil && len(all) == 0 {
		all = append(all, a.Unmap())
	}
	return all
}

func nodeAddresses(n *corev1.Node) []netip.Addr {
	var all []netip.Addr
	for _, address := range n.Status.Addresses {
		if a, err := netip.ParseAddr(address.Address); err == nil && address.Type == corev1.NodeInternalIP {
			all = append(all, a.Unmap())
		}
	}
	return all
}

func (o objects) service(name types.NamespacedName) (*corev1.Service, error) {
	for i := range o.Services {
		if s := &o.Services[i]; s.Namespace == name.Namespace && s.Name == name.Name {
			return s, nil
		}
	}
	return nil, fmt.Errorf("there is no Service %s", name)
}

func protocolOf(p corev1.Protocol) plan.Protocol {
	return plan.Protocol(cmp.Or(p, corev1.ProtocolTCP))
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// targets gives the addresses that the target may have for a client, in the order of preference.
func (o objects) targets(q *Question) ([]netip.AddrPort, error) {
	switch q.To.Kind {
	case scenario.PodTarget:
		return o.podTargets(q)
	case scenario.ServiceTarget:
		return o.serviceTargets(q)
	}
	a, err := netip.ParseAddr(q.To.Address)
	port, portErr := strconv.ParseUint(q.To.Port, 10, 16)
	if err != nil || portErr != nil {
		return nil, fmt.Errorf("%s is no address with a port", q.To)
	}
	return []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), uint16(port))}, nil
}

func (o objects) podTargets(q *Question) ([]netip.AddrPort, error) {
	p, err := o.pod(q.To.Object)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(q.To.Port, 10, 16)
	for i := range p.Spec.Containers {
		for _, port := range p.Spec.Containers[i].Ports {
			if err != nil && port.Name == q.To.Port && protocolOf(port.Protocol) == q.Protocol {
				number, err = uint64(port.ContainerPort), nil
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the Pod %s has no %s port named %s", q.To.Object, q.Protocol, q.To.Port)
	}
	addresses := podAddresses(p)
	if p.Spec.HostNetwork && len(addresses) == 0 {
		addresses = o.addressesOf(p.Spec.NodeName)
	}
	return withPort(addresses, uint16(number)), nil
}

func (o objects) addressesOf(node string) []netip.Addr {
	for i := range o.Nodes {
		if o.Nodes[i].Name == node {
			return nodeAddresses(&o.Nodes[i])
		}
	}
	return nil
}

func withPort(addresses []netip.Addr, port uint16) []netip.AddrPort {
	var all []netip.AddrPort
	for _, a := range addresses {
		all = append(all, netip.AddrPortFrom(a, port))
	}
	return all
}

func (o objects) serviceTargets(q *Question) ([]netip.AddrPort, error) {
	s, err := o.service(q.To.Object)
	if err != nil {
		return nil, err
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return o.aliasTargets(q, s)
	}
	number, err := strconv.ParseUint(q.To.Port, 10, 16)
	for _, p := range s.Spec.Ports {
		if err != nil && p.Name == q.To.Port && protocolOf(p.Protocol) == q.Protocol {
			number, err = uint64(p.Port), nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the Service %s has no %s port named %s", q.To.Object, q.Protocol, q.To.Port)
	}
	if s.Spec.ClusterIP != corev1.ClusterIPNone {
		return withPort(parsed(s.Spec.ClusterIPs), uint16(number)), nil
	}
	var all []netip.AddrPort
	for _, six := range []bool{false, true} {
		var of []netip.Addr
		for i := range s.Spec.Ports {
			for _, e := range o.endpoints(s, &s.Spec.Ports[i], six, "") {
				of = append(of, e.Addr())
			}
		}
		slices.SortFunc(of, netip.Addr.Compare)
		of = slices.Compact(of)
		if n := max(q.To.Nth, 1); n <= len(of) {
			all = append(all, netip.AddrPortFrom(of[n-1], uint16(number))) // the client uses the port that it asks for
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the headless Service %s has no endpoint that is ready: its name has no address", q.To.Object)
	}
	return all, nil
}

// mostAliases is how many names a name may stand for, one for another.
const mostAliases = 8

// aliasTargets gives the addresses of what a Service of type ExternalName stands for: an alias in DNS, and nothing else. Clients ask for the
// port that they have in mind there.
func (o objects) aliasTargets(q *Question, s *corev1.Service) ([]netip.AddrPort, error) {
	aliased := *q
	for range mostAliases {
		parts := strings.Split(strings.TrimSuffix(s.Spec.ExternalName, "."), ".")
		if len(parts) < 3 || parts[2] != "svc" {
			return nil, fmt.Errorf("the Service %s stands for the name %s, outside of the cluster: trace to the address that it has, as ip/ADDRESS:PORT", q.To.Object, s.Spec.ExternalName)
		}
		aliased.To.Object = types.NamespacedName{Namespace: parts[1], Name: parts[0]}
		var err error
		if s, err = o.service(aliased.To.Object); err != nil {
			return nil, fmt.Errorf("the Service %s stands for the name %s: %w", q.To.Object, strings.Join(parts, "."), err)
		}
		if s.Spec.Type != corev1.ServiceTypeExternalName {
			return o.serviceTargets(&aliased)
		}
	}
	return nil, fmt.Errorf("the Service %s stands for a name that stands for another, and so on without end", q.To.Object)
}

// sources gives the addresses that the client may have.
func (o objects) sources(f From) ([]netip.Addr, error) {
	switch {
	case f.Address.IsValid():
		return []netip.Addr{f.Address}, nil
	case f.Node != "":
		if all := o.addressesOf(f.Node); len(all) > 0 {
			return all, nil
		}
		return nil, fmt.Errorf("there is no node %s with an address", f.Node)
	}
	p, err := o.pod(f.Pod)
	if err != nil {
		return nil, err
	}
	if p.Spec.HostNetwork {
		return o.addressesOf(p.Spec.NodeName), nil
	}
	return podAddresses(p), nil
}

// ends chooses addresses of one family for both ends.
func (o objects) ends(q *Question) (client netip.Addr, server netip.AddrPort, err error) {
	sources, err := o.sources(q.From)
	if err != nil {
		return client, server, err
	}
	targets, err := o.targets(q)
	if err != nil {
		return client, server, err
	}
	for _, to := range targets {
		for _, from := range sources {
			is6 := to.Addr().Is6()
			if from.Is6() == is6 && (q.Family == "" || is6 == (q.Family == scenario.IPv6)) {
				return from, to, nil
			}
		}
	}
	return client, server, fmt.Errorf("%s and %s have no address of one family%s", q.From, q.To, map[bool]string{true: " " + string(q.Family)}[q.Family != ""])
}
