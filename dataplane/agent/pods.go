package agent

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// localPods gives the node's Pods as they are now. What the CNI plugin has told of a Pod's sandbox is newer than the Pod's status:
// its addresses hold, and a Pod whose sandbox has ended is none. asked are Pods that the API server told of before its informer did.
func localPods(informed []corev1.Pod, told map[types.UID]sandbox, asked map[types.UID]*corev1.Pod) []corev1.Pod {
	pods := make([]corev1.Pod, 0, len(informed)+len(asked))
	names := make(map[types.NamespacedName]int, len(informed))
	add := func(p corev1.Pod) {
		s, ok := told[p.UID]
		switch {
		case ok && s.Ended:
			return
		case ok && len(s.Addresses) > 0 && !p.Spec.HostNetwork:
			setAddresses(&p, s.Addresses)
		}
		name := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
		if at, ok := names[name]; ok { // the newer of two that had the name one after the other
			pods[at] = p
			return
		}
		names[name] = len(pods)
		pods = append(pods, p)
	}
	for _, p := range informed {
		add(p)
	}
	for uid, p := range asked {
		if _, ok := told[uid]; ok {
			add(*p)
		}
	}
	return pods
}

// setAddresses replaces the addresses of a Pod's status, unless they are the same. The Pod's other parts stay shared.
func setAddresses(p *corev1.Pod, addresses []netip.Addr) {
	ips := make([]corev1.PodIP, len(addresses))
	for i, a := range addresses {
		ips[i].IP = a.String()
	}
	if !slices.Equal(ips, p.Status.PodIPs) {
		p.Status.PodIP, p.Status.PodIPs = ips[0].IP, ips
	}
}

// addressesOf gives a Pod's own addresses.
func addressesOf(p *corev1.Pod) []netip.Addr {
	var all []netip.Addr
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			all = append(all, a.Unmap())
		}
	}
	return all
}
