package plan

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// slicePeer is a Pod as AddressSlices tell of it.
type slicePeer struct {
	addresses []netip.Addr
	ports     []containerPort
}

// slicePeers collects the Pods of a snapshot's slices, without those of which the snapshot itself knows better: its own Pods. What
// several slices tell of one Pod is put together.
func slicePeers(s *Snapshot) map[types.NamespacedName]*slicePeer {
	own := make(map[types.NamespacedName]bool, len(s.Pods))
	for i := range s.Pods {
		own[types.NamespacedName{Namespace: s.Pods[i].Namespace, Name: s.Pods[i].Name}] = true
	}
	all := map[types.NamespacedName]*slicePeer{}
	for i := range s.AddressSlices {
		for k := range s.AddressSlices[i].Peers {
			object := &s.AddressSlices[i].Peers[k]
			name := types.NamespacedName{Namespace: object.Namespace, Name: object.Name}
			if own[name] {
				continue
			}
			if all[name] == nil {
				all[name] = &slicePeer{}
			}
			all[name].add(object)
		}
	}
	return all
}

func (p *slicePeer) add(object *v1alpha1.PeerAddresses) {
	for _, text := range object.Addresses {
		if a, err := netip.ParseAddr(text); err == nil && !slices.Contains(p.addresses, a.Unmap()) {
			p.addresses = append(p.addresses, a.Unmap())
		}
	}
	for _, port := range object.Ports {
		protocol, ok := protocolNumber(string(port.Protocol))
		c := containerPort{port.Name, protocol, uint16(port.Port)}
		if ok && port.Port > 0 && port.Port < portsPerProtocol && !slices.Contains(p.ports, c) {
			p.ports = append(p.ports, c)
		}
	}
}

// newPeerPod makes a Pod of what slices tell of it. No policy selects it, as it has no labels here. One without addresses uses its
// node's network.
func (x *index) newPeerPod(name types.NamespacedName, peer *slicePeer) pod {
	p := pod{object: &corev1.Pod{}, name: name, peerOnly: true, host: len(peer.addresses) == 0, ports: peer.ports}
	for _, a := range peer.addresses {
		p.addresses = append(p.addresses, x.addressID[a])
	}
	slices.Sort(p.addresses)
	return p
}

// addSlices notes which Pods the slices of each selector hold.
func (x *index) addSlices(all []v1alpha1.AddressSlice) {
	ids := make(map[types.NamespacedName]int32, len(x.pods))
	for id := range x.pods {
		ids[x.pods[id].name] = int32(id)
	}
	x.peersOf = map[string]*podSelection{}
	for i := range all {
		key := SliceKey(&all[i])
		if x.peersOf[key] == nil {
			x.peersOf[key] = &podSelection{}
		}
		x.peersOf[key].addSlice(x, ids, &all[i])
	}
	for _, s := range x.peersOf {
		s.finish(x)
	}
}

// addSlice adds a slice's Pods, without those that have come to their end since.
func (s *podSelection) addSlice(x *index, ids map[types.NamespacedName]int32, slice *v1alpha1.AddressSlice) {
	for k := range slice.Peers {
		id, lives := ids[types.NamespacedName{Namespace: slice.Peers[k].Namespace, Name: slice.Peers[k].Name}]
		switch {
		case !lives:
		case x.pods[id].host:
			s.host = append(s.host, id)
		default:
			s.pods = append(s.pods, id)
		}
	}
}

// slicePods returns what the slices of a selector hold; nobody when there are none.
func (x *index) slicePods(key string) *podSelection {
	if s, ok := x.peersOf[key]; ok {
		return s
	}
	return &podSelection{}
}

// PeerOf returns what an AddressSlice tells of a Pod that its selector selects: addresses in canonical form, and named ports. It
// returns false for a Pod that has no address yet or whose containers have all ended for good: such a Pod is in no slice.
func PeerOf(object *corev1.Pod) (v1alpha1.PeerAddresses, bool) {
	addresses := podAddresses(object)
	if len(addresses) == 0 {
		return v1alpha1.PeerAddresses{}, false
	}
	peer := v1alpha1.PeerAddresses{Namespace: object.Namespace, Name: object.Name}
	for _, c := range containerPorts(object) {
		port := v1alpha1.PeerPort{Name: c.name, Protocol: corev1.Protocol(protocolName(c.protocol)), Port: int32(c.number)}
		if c.name != "" && len(peer.Ports) < maxPeerPorts && !slices.Contains(peer.Ports, port) {
			peer.Ports = append(peer.Ports, port)
		}
	}
	if object.Spec.HostNetwork {
		return peer, true
	}
	for _, a := range addresses[:min(len(addresses), maxPeerAddresses)] {
		peer.Addresses = append(peer.Addresses, a.String())
	}
	return peer, true
}

// What an AddressSlice holds of a Pod at most. See v1alpha1.PeerAddresses.
const (
	maxPeerAddresses = 16
	maxPeerPorts     = 256
)
