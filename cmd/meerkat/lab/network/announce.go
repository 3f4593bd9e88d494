package network

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// Announce has the underlay send what is for these addresses to nodes, as load balancers and routers do for Services' addresses outside
// of the cluster. Addresses that are not named any more are not announced any more.
func (n *Network) Announce(addresses map[netip.Addr]string) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if maps.Equal(n.announced, addresses) {
		return nil
	}
	err := netspace.Do(n.wire, func() error {
		var errs []error
		for _, a := range slices.SortedFunc(maps.Keys(n.announced), netip.Addr.Compare) {
			if _, still := addresses[a]; !still {
				errs = append(errs, delRoute(wireBridge, single(a)))
			}
		}
		for _, a := range slices.SortedFunc(maps.Keys(addresses), netip.Addr.Compare) {
			node := n.nodes[addresses[a]]
			if node == nil {
				errs = append(errs, fmt.Errorf("the node %q, which is to announce %s, is not there", addresses[a], a))
				continue
			}
			errs = append(errs, addRoute(wireBridge, single(a), node.address(a)))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("cannot announce Services' addresses: %w", err)
	}
	n.announced = maps.Clone(addresses)
	return nil
}
