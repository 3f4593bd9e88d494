package network

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// A VLAN of the underlay, on which Pods and nodes have one subnet, as with a CNI plugin's underlay mode: each node has a bridge with an
// interface of its own into the VLAN, as behind an access port of a switch, its own address on it, and the Pods' ports; the gateway is a
// router outside of the nodes. Frames have no tag: many kernels that labs run on know none.

// MaxVLAN is the highest id that a lab's VLAN may have; the lowest is 1.
const MaxVLAN = 200

// VLANSubnets are a VLAN's, one of each family.
func VLANSubnets(id int) []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("172.30.%d.0/24", id)), netip.MustParsePrefix(fmt.Sprintf("fd00:30:%x::/64", id))}
}

// VLANAddresses are those of a node on a VLAN; nodes are counted from 0.
func VLANAddresses(id, node int) []netip.Addr {
	return []netip.Addr{
		netip.MustParseAddr(fmt.Sprintf("172.30.%d.%d", id, node+1)), netip.MustParseAddr(fmt.Sprintf("fd00:30:%x::%x", id, node+1)),
	}
}

// vlanGateways are the router's addresses.
func vlanGateways(id int) []netip.Addr {
	return []netip.Addr{netip.MustParseAddr(fmt.Sprintf("172.30.%d.254", id)), netip.MustParseAddr(fmt.Sprintf("fd00:30:%x::fe", id))}
}

func vlanBridge(id int) string { return fmt.Sprintf("vlan%d", id) }

// vlanInterface is a node's, into the VLAN.
func vlanInterface(id int) string { return fmt.Sprintf("access%d", id) }

// vlanSubnet is the VLAN's subnet of one family, and its gateway there.
func vlanSubnet(id int, like netip.Addr) (subnet netip.Prefix, gateway netip.Addr) {
	for i, s := range VLANSubnets(id) {
		if s.Addr().Is4() == like.Is4() {
			return s, vlanGateways(id)[i]
		}
	}
	return netip.Prefix{}, netip.Addr{}
}

// ensureVLAN makes a VLAN on all nodes, unless it is there.
func (n *Network) ensureVLAN(id int) error {
	if n.vlans[id] {
		return nil
	}
	if id < 1 || id > MaxVLAN {
		return fmt.Errorf("VLAN %d: write 1 to %d", id, MaxVLAN)
	}
	bridge := vlanBridge(id)
	err := netspace.Do(n.wire, func() error { return makeVLAN(id, vlanGateways(id)) })
	for i, name := range n.order {
		node, addresses := n.nodes[name], VLANAddresses(id, i)
		if err == nil {
			err = node.space.Do(func() error { return makeVLAN(id, addresses) })
		}
		if err == nil {
			err = netspace.Do(n.wire, func() error {
				return makeSwitchPort("vlan-"+shortHash(name+bridge), bridge, vlanInterface(id), node.space)
			})
		}
		if err == nil {
			err = node.space.Do(func() error { return enslave(vlanInterface(id), bridge) })
		}
	}
	if err != nil {
		return fmt.Errorf("cannot make VLAN %d: %w", id, err)
	}
	if n.vlans == nil {
		n.vlans = map[int]bool{}
	}
	n.vlans[id] = true
	return nil
}

// makeVLAN makes a bridge with addresses on the VLAN.
func makeVLAN(id int, addresses []netip.Addr) error {
	if err := makeBridge(vlanBridge(id), macOf(addresses)); err != nil {
		return err
	}
	for i, s := range VLANSubnets(id) {
		if err := addAddress(vlanBridge(id), netip.PrefixFrom(addresses[i], s.Bits())); err != nil {
			return err
		}
	}
	return awaitAddresses()
}

// makeSwitchPort makes a port that sends nothing back by the way it came: a node's bridge would take its own Pods to be behind it.
func makeSwitchPort(name, bridge, peer string, inside *netspace.Space) error {
	if err := makePort(name, bridge, peer, nil, inside, 0); err != nil {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("cannot find %s: %w", name, err)
	}
	if err := netlink.LinkSetHairpin(link, false); err != nil {
		return fmt.Errorf("cannot unset hairpin mode of %s: %w", name, err)
	}
	return nil
}

// enslave makes an interface a port of a bridge.
func enslave(name, bridge string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("cannot find %s: %w", name, err)
	}
	master, err := netlink.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("cannot find %s: %w", bridge, err)
	}
	if err := netlink.LinkSetMaster(link, master); err != nil {
		return fmt.Errorf("cannot make %s a port of %s: %w", name, bridge, err)
	}
	return up(name)
}
