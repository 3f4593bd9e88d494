package plan

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// index is a Snapshot, sorted and made quick to ask. Pods and addresses are spoken of by their place in it.
type index struct {
	node string
	// nodes is how many nodes the snapshot tells of, 0 when it tells of none.
	nodes int
	// addresses are those of all Pods and endpoints, sorted. An address's id is its place.
	addresses []netip.Addr
	addressID map[netip.Addr]int32
	// pods are those that live, sorted by name.
	pods []pod
	// owners maps the id of an address to the Pods that have it, which is nearly always one.
	owners map[int32][]int32

	namespaces map[string]labels.Set
	// namespaceNames are the keys of namespaces, sorted.
	namespaceNames []string
	byNamespace    map[string][]int32
	byLabel        map[podLabel][]int32
	selections     map[string]*podSelection
	// peersOf holds what AddressSlices tell, by the key of their selector; nil when peers are looked for among the Pods.
	peersOf map[string]*podSelection

	services map[types.NamespacedName]*service
	// serviceNames are the keys of services, sorted.
	serviceNames []types.NamespacedName
}

// pod is a Pod that lives: it has an address and has not come to its end.
type pod struct {
	object *corev1.Pod
	name   types.NamespacedName
	// peerOnly says that nothing is known of it but what AddressSlices tell.
	peerOnly bool
	// local says that it is on the node that is planned for.
	local bool
	// host says that it uses its node's network, and can be told from its node neither as an edge nor as a peer.
	host bool
	// addresses are ids, sorted; none if host.
	addresses []int32
	ports     []containerPort
}

// containerPort is a port that a container of a Pod declares.
type containerPort struct {
	name     string // may be empty
	protocol int
	number   uint16
}

type podLabel struct{ namespace, key, value string }

func newIndex(s *Snapshot) *index {
	x := &index{
		node:        s.Node,
		nodes:       len(s.Nodes),
		addressID:   map[netip.Addr]int32{},
		owners:      map[int32][]int32{},
		namespaces:  map[string]labels.Set{},
		byNamespace: map[string][]int32{},
		byLabel:     map[podLabel][]int32{},
		selections:  map[string]*podSelection{},
		services:    map[types.NamespacedName]*service{},
	}
	slicesOf := slicesByService(s.EndpointSlices)
	var peers map[types.NamespacedName]*slicePeer
	if s.PeersFromSlices {
		peers = slicePeers(s)
	}
	x.addAddresses(s, peers)
	x.addPods(s.Pods, peers)
	if s.PeersFromSlices {
		x.addSlices(s.AddressSlices)
	}
	x.addServices(s.Services, slicesOf)
	x.addNamespaces(s)
	return x
}

func (x *index) addAddresses(s *Snapshot, peers map[types.NamespacedName]*slicePeer) {
	add := func(a netip.Addr) {
		if _, ok := x.addressID[a]; !ok {
			x.addressID[a] = 0
			x.addresses = append(x.addresses, a)
		}
	}
	for i := range s.Pods {
		for _, a := range podAddresses(&s.Pods[i]) {
			add(a)
		}
	}
	for _, p := range peers {
		for _, a := range p.addresses {
			add(a)
		}
	}
	for i := range s.EndpointSlices {
		for j := range s.EndpointSlices[i].Endpoints {
			for _, a := range endpointAddresses(&s.EndpointSlices[i], j) {
				add(a)
			}
		}
	}
	slices.SortFunc(x.addresses, netip.Addr.Compare)
	for id, a := range x.addresses {
		x.addressID[a] = int32(id)
	}
}

func (x *index) addPods(objects []corev1.Pod, peers map[types.NamespacedName]*slicePeer) {
	for i := range objects {
		if p, ok := x.newPod(&objects[i]); ok {
			x.pods = append(x.pods, p)
		}
	}
	for name, peer := range peers {
		x.pods = append(x.pods, x.newPeerPod(name, peer))
	}
	slices.SortFunc(x.pods, func(a, b pod) int { return compareNames(a.name, b.name) })
	for i := range x.pods {
		p, id := &x.pods[i], int32(i)
		for _, a := range p.addresses {
			x.owners[a] = append(x.owners[a], id)
		}
		if p.peerOnly {
			continue
		}
		x.byNamespace[p.name.Namespace] = append(x.byNamespace[p.name.Namespace], id)
		for k, v := range p.object.Labels {
			l := podLabel{p.name.Namespace, k, v}
			x.byLabel[l] = append(x.byLabel[l], id)
		}
	}
}

// newPod returns false for a Pod that has no address yet, or whose containers have all ended for good.
func (x *index) newPod(object *corev1.Pod) (pod, bool) {
	p := pod{
		object: object,
		name:   types.NamespacedName{Namespace: object.Namespace, Name: object.Name},
		local:  x.node == "" || x.node == object.Spec.NodeName,
		host:   object.Spec.HostNetwork,
	}
	addresses := podAddresses(object)
	if len(addresses) == 0 {
		return pod{}, false
	}
	if !p.host {
		for _, a := range addresses {
			p.addresses = append(p.addresses, x.addressID[a])
		}
		slices.Sort(p.addresses)
	}
	p.ports = containerPorts(object)
	return p, true
}

// podAddresses returns the addresses of a Pod that lives, without duplicates; none for one that has come to its end.
func podAddresses(object *corev1.Pod) []netip.Addr {
	if object.Status.Phase == corev1.PodSucceeded || object.Status.Phase == corev1.PodFailed {
		return nil
	}
	var addresses []netip.Addr
	add := func(text string) {
		if a, err := netip.ParseAddr(text); err == nil && !slices.Contains(addresses, a.Unmap()) {
			addresses = append(addresses, a.Unmap())
		}
	}
	for _, ip := range object.Status.PodIPs {
		add(ip.IP)
	}
	if len(object.Status.PodIPs) == 0 {
		add(object.Status.PodIP)
	}
	return addresses
}

// endpointAddresses returns the addresses of a slice's endpoint; none of a slice of host names.
func endpointAddresses(slice *discoveryv1.EndpointSlice, endpoint int) []netip.Addr {
	if slice.AddressType == discoveryv1.AddressTypeFQDN {
		return nil
	}
	var addresses []netip.Addr
	for _, text := range slice.Endpoints[endpoint].Addresses {
		if a, err := netip.ParseAddr(text); err == nil {
			addresses = append(addresses, a.Unmap())
		}
	}
	return addresses
}

// containerPorts returns the ports of the containers that run as long as the Pod does: also of init containers that are
// sidecars.
func containerPorts(object *corev1.Pod) []containerPort {
	var ports []containerPort
	add := func(c *corev1.Container) {
		for _, p := range c.Ports {
			protocol, ok := protocolNumber(string(p.Protocol))
			if ok && p.ContainerPort > 0 && p.ContainerPort < portsPerProtocol {
				ports = append(ports, containerPort{p.Name, protocol, uint16(p.ContainerPort)})
			}
		}
	}
	for i := range object.Spec.InitContainers {
		c := &object.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	for i := range object.Spec.Containers {
		add(&object.Spec.Containers[i])
	}
	return ports
}

// namedPort returns the numbers, sorted, that a name and protocol stand for on the Pod.
func (p *pod) namedPort(name string, protocol int) []uint16 {
	var numbers []uint16
	for _, c := range p.ports {
		if c.name == name && c.protocol == protocol {
			numbers = append(numbers, c.number)
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// declares says whether a container of the Pod declares the port.
func (p *pod) declares(protocol int, number uint16) bool {
	return slices.ContainsFunc(p.ports, func(c containerPort) bool { return c.protocol == protocol && c.number == number })
}

func (x *index) addNamespaces(s *Snapshot) {
	add := func(name string, own map[string]string) {
		if _, ok := x.namespaces[name]; ok {
			return
		}
		set := labels.Merge(own, labels.Set{corev1.LabelMetadataName: name})
		x.namespaces[name] = set
		x.namespaceNames = append(x.namespaceNames, name)
	}
	for i := range s.Namespaces {
		add(s.Namespaces[i].Name, s.Namespaces[i].Labels)
	}
	for name := range x.byNamespace {
		add(name, nil)
	}
	slices.Sort(x.namespaceNames)
}

func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
