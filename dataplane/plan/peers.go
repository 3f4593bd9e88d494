package plan

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// peers is whom a rule is about.
type peers struct {
	// pods are the Pods that its selectors select, and addresses the ids of their addresses; both sorted.
	pods, addresses []int32
	blocks          []block
	// named says that it names blocks: without peers, the blocks are everybody.
	named bool
	// services are the ports of the Services that it names.
	services []servicePeer
	// onlyServices says that it names nobody but Services.
	onlyServices bool
}

// block is an ipBlock.
type block struct {
	prefix netip.Prefix
	except []netip.Prefix
}

func (b block) contains(a netip.Addr) bool {
	return b.prefix.Contains(a) && !slices.ContainsFunc(b.except, func(e netip.Prefix) bool { return e.Contains(a) })
}

type servicePeer struct {
	service *service
	port    *corev1.ServicePort
}

// everybody are the blocks that a rule without peers is about.
func everybody() []block {
	return []block{
		{prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0)},
		{prefix: netip.PrefixFrom(netip.IPv6Unspecified(), 0)},
	}
}

// newPeers resolves a rule's peers. What is faulty or dangling is nobody.
func newPeers(x *index, p *policy, s *ruleSource) peers {
	if len(s.peers) == 0 {
		return peers{blocks: everybody()}
	}
	found := peers{onlyServices: true}
	for i := range s.peers {
		peer, field := &s.peers[i], fmt.Sprintf("%s[%d]", s.peersField, i)
		if peer.Service != nil {
			found.services = append(found.services, findService(x, p, field+".service", peer.Service)...)
			continue
		}
		found.onlyServices = false
		switch {
		case peer.IPBlock != nil:
			if b, ok := newBlock(p, field+".ipBlock", peer.IPBlock); ok {
				found.blocks, found.named = append(found.blocks, b), true
			}
		case peer.PodSelector != nil || peer.NamespaceSelector != nil:
			selected := findPods(x, p, field, &peer.Peer)
			found.pods = append(found.pods, selected.pods...)
			found.addresses = append(found.addresses, selected.addresses...)
		default:
			p.fault(field, "is empty: set podSelector, namespaceSelector, ipBlock or, at egress, service; to mean everybody, leave %s out",
				s.peersField)
		}
	}
	found.pods, found.addresses = sortedUnique(found.pods), sortedUnique(found.addresses)
	return found
}

func findPods(x *index, p *policy, field string, peer *v1alpha1.Peer) *podSelection {
	var err error
	var namespaces labels.Selector
	pods := labels.Everything()
	if peer.PodSelector != nil {
		if pods, err = parseSelector(peer.PodSelector); err != nil {
			p.fault(field+".podSelector", "cannot be used: %v; it selects no Pod until it is corrected", err)
		}
	}
	if peer.NamespaceSelector != nil {
		if namespaces, err = parseSelector(peer.NamespaceSelector); err != nil {
			p.fault(field+".namespaceSelector", "cannot be used: %v; it selects no namespace until it is corrected", err)
		}
	}
	var selected *podSelection
	switch {
	case x.peersOf != nil:
		selected = x.slicePods(SelectorKey(p.name.Namespace, peer))
	case namespaces == nil:
		selected = x.selectPods(p.name.Namespace, pods)
	default:
		selected = x.selectPeers(namespaces, pods)
	}
	if len(selected.host) > 0 {
		p.note(field, "also selects Pods that use their node's network, such as %s. Those cannot be told from their node and are not "+
			"matched: to allow them, add an ipBlock with their nodes' addresses.", x.pods[selected.host[0]].name)
	}
	return selected
}

// newBlock reads an ipBlock. Bits beyond the prefix length are ignored, as NetworkPolicy does.
func newBlock(p *policy, field string, object *v1alpha1.IPBlock) (block, bool) {
	prefix, err := netip.ParsePrefix(object.CIDR)
	if err != nil {
		p.fault(field+".cidr", "is %q: write a network such as 192.0.2.0/24 or 2001:db8::/32", object.CIDR)
		return block{}, false
	}
	b := block{prefix: prefix.Masked()}
	for i, text := range object.Except {
		except, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			// An exception that cannot be read may be any address: the block is not opened until it can be.
			p.fault(fmt.Sprintf("%s.except[%d]", field, i), "is %q: write a network such as 192.0.2.0/28", text)
			return block{}, false
		case except.Bits() <= b.prefix.Bits() && except.Contains(b.prefix.Addr()):
			p.fault(fmt.Sprintf("%s.except[%d]", field, i), "takes away all of %s: narrow it, or remove the peer", object.CIDR)
			return block{}, false
		case except.Overlaps(b.prefix):
			b.except = append(b.except, except.Masked())
		}
	}
	return b, true
}

// findService resolves a Service peer to ports of the Service.
func findService(x *index, p *policy, field string, peer *v1alpha1.ServicePeer) []servicePeer {
	name := types.NamespacedName{Namespace: peer.Namespace, Name: peer.Name}
	if name.Namespace == "" {
		name.Namespace = p.name.Namespace
	}
	s, ok := x.services[name]
	switch {
	case !ok:
		p.dangle(ReasonServiceNotFound, field, "names the Service %s, which does not exist: the rule allows nothing through it. "+
			"Correct the name or create the Service.", name)
		return nil
	case s.object.Spec.Type == corev1.ServiceTypeExternalName:
		p.dangle(ReasonServiceUnresolvable, field, "names the Service %s, which is an alias (ExternalName) of %s and has no endpoints: "+
			"the rule allows nothing through it. Use an ipBlock, with tls.serverNames or http.hosts under l7 for the name.",
			name, s.object.Spec.ExternalName)
		return nil
	}
	var found []servicePeer
	for i := range s.object.Spec.Ports {
		port := &s.object.Spec.Ports[i]
		if peer.Port == nil || isServicePort(port, peer.Port) {
			found = append(found, servicePeer{s, port})
		}
	}
	if len(found) == 0 {
		p.dangle(ReasonServicePortNotFound, field+".port", "names port %s of the Service %s, which has %s: the rule allows nothing "+
			"through it. Write one of those, or leave port out for all.", peer.Port, name, describePorts(s.object.Spec.Ports))
	}
	return found
}

func isServicePort(port *corev1.ServicePort, ref *v1alpha1.PortRef) bool {
	if ref.Type == intstr.String {
		return port.Name == ref.StrVal
	}
	return port.Port == ref.IntVal
}
