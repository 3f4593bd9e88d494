package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
)

// VLAN is the annotation of Pods that are on a VLAN of the underlay, in the nodes' own subnet, by its id.
const VLAN = "lab.meerkat.dev/vlan"

// vlanOf gives the VLAN that a Pod is on; 0 for none.
func vlanOf(pod *corev1.Pod) (int, error) {
	text, ok := pod.Annotations[VLAN]
	if !ok {
		return 0, nil
	}
	id, err := strconv.Atoi(text)
	if err != nil || id < 1 || id > network.MaxVLAN {
		return 0, fmt.Errorf("its annotation %s is %q: write the id of a VLAN, 1 to %d", VLAN, text, network.MaxVLAN)
	}
	return id, nil
}

// networksOf are those that a Pod gets its addresses from. On a VLAN, the nodes have addresses, too.
func (c *cluster) networksOf(pod *corev1.Pod, node int) ([]netip.Prefix, error) {
	id, err := vlanOf(pod)
	if id == 0 || err != nil {
		return nodeNetwork(node), err
	}
	for i, name := range c.nodes {
		for _, a := range network.VLANAddresses(id, i) {
			if !slices.Contains(c.addresses[name], a) {
				c.addresses[name] = append(c.addresses[name], a)
			}
		}
	}
	return network.VLANSubnets(id), nil
}
