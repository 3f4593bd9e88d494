package network

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// Node is a node that exists.
type Node struct {
	Name string
	// Addresses are its own on the underlay, one of each family.
	Addresses []netip.Addr
	// PodCIDRs are its Pods' subnets. The first address of each is the node's own, and the Pods' gateway.
	PodCIDRs []netip.Prefix
	// Netns is the path of its network namespace.
	Netns string
}

type node struct {
	Node
	space *netspace.Space
}

// AddNode makes a node, with routes to and from the other nodes. podCIDRs are its Pods' subnets, one of each family at most;
// nil gives it one of both.
func (n *Network) AddNode(name string, podCIDRs []netip.Prefix) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if err := n.addNode(name, podCIDRs); err != nil {
		return fmt.Errorf("cannot make the node %s: %w", name, err)
	}
	return nil
}

// Node says what a node was given.
func (n *Network) Node(name string) (Node, bool) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	d, ok := n.nodes[name]
	if !ok {
		return Node{}, false
	}
	return d.Node, true
}

func (n *Network) addNode(name string, podCIDRs []netip.Prefix) error {
	if n.nodes[name] != nil {
		return errors.New("there is one of that name")
	}
	made := &node{Node: Node{Name: name, PodCIDRs: slices.Clone(podCIDRs), Netns: n.NodeNetns(name)}}
	if err := n.number(made); err != nil {
		return err
	}
	path, err := netspace.Create(filepath.Base(made.Netns))
	if err != nil {
		return err
	}
	if made.space, err = netspace.Open(path); err != nil {
		return err
	}
	n.nodes[name] = made // so that Destroy closes it
	if err := made.space.Do(made.setUp); err != nil {
		return err
	}
	if err := n.plugIn(made); err != nil {
		return err
	}
	for _, name := range n.order {
		other := n.nodes[name]
		if err := errors.Join(made.reach(other), other.reach(made)); err != nil {
			return err
		}
	}
	for _, pod := range n.pods {
		if err := made.reachPod(pod, n.nodes[pod.Node]); err != nil {
			return err
		}
	}
	n.order = append(n.order, name)
	if len(n.services) > 0 {
		return n.programServices(made)
	}
	return nil
}

// number hands out the node's addresses, and its Pods' subnets where the caller left them open.
func (n *Network) number(made *node) error {
	if len(n.nodes) >= maxNodes {
		return fmt.Errorf("a lab has at most %d nodes", maxNodes)
	}
	number := len(n.nodes) + 1 // nodes are never removed
	made.Addresses = []netip.Addr{
		netip.MustParseAddr(fmt.Sprintf(nodeIPv4Format, number)), netip.MustParseAddr(fmt.Sprintf(nodeIPv6Format, number)),
	}
	if len(made.PodCIDRs) == 0 {
		made.PodCIDRs = []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf(podCIDRv4Format, number)), netip.MustParsePrefix(fmt.Sprintf(podCIDRv6Format, number)),
		}
	}
	for i, s := range made.PodCIDRs {
		made.PodCIDRs[i] = s.Masked()
		if n.overlaps(s) {
			return fmt.Errorf("the Pods' subnet %s overlaps another node's", s)
		}
	}
	return nil
}

func (n *Network) overlaps(subnet netip.Prefix) bool {
	for _, node := range n.nodes {
		for _, s := range node.PodCIDRs {
			if s.Overlaps(subnet) {
				return true
			}
		}
	}
	return false
}

// setUp makes the node's own half, in its namespace.
func (d *node) setUp() error {
	if err := quickAddresses(); err != nil {
		return err
	}
	err := setSysctls(
		[2]string{"ipv4/ip_forward", "1"}, [2]string{"ipv6/conf/all/forwarding", "1"},
		[2]string{"ipv4/conf/all/send_redirects", "0"}, [2]string{"ipv4/conf/default/send_redirects", "0"},
		[2]string{"bridge/bridge-nf-call-iptables", "1"}, [2]string{"bridge/bridge-nf-call-ip6tables", "1"},
	)
	if err != nil {
		return err
	}
	if err := up("lo"); err != nil {
		return err
	}
	var gateways []netip.Addr
	for _, s := range d.PodCIDRs {
		gateways = append(gateways, gatewayOf(s))
	}
	if err := makeBridge(podBridge, macOf(gateways)); err != nil {
		return err
	}
	for i, s := range d.PodCIDRs {
		if err := addAddress(podBridge, netip.PrefixFrom(gateways[i], s.Bits())); err != nil {
			return err
		}
	}
	return nil
}

// setUpWire makes the underlay, in its namespace.
func setUpWire() error {
	if err := quickAddresses(); err != nil {
		return err
	}
	// What it has no route to is refused by ICMP, and not swallowed.
	if err := setSysctls([2]string{"ipv4/ip_forward", "1"}, [2]string{"ipv6/conf/all/forwarding", "1"}); err != nil {
		return err
	}
	if err := up("lo"); err != nil {
		return err
	}
	outside := []netip.Addr{netip.MustParseAddr(outsideIPv4), netip.MustParseAddr(outsideIPv6)}
	if err := makeBridge(wireBridge, macOf(outside)); err != nil {
		return err
	}
	for _, a := range outside {
		if err := addAddress(wireBridge, single(a)); err != nil {
			return err
		}
	}
	return nil
}

// plugIn joins the node to the underlay. Every address there is on its own, with a route of its own, so that nodes may have any.
func (n *Network) plugIn(made *node) error {
	err := netspace.Do(n.wire, func() error {
		err := makePort("port-"+shortHash(made.Name), wireBridge, underlayInterface, macOf(made.Addresses), made.space, 0)
		if err != nil {
			return err
		}
		for _, a := range made.Addresses {
			if err := addRoute(wireBridge, single(a), netip.Addr{}); err != nil {
				return err
			}
		}
		for _, s := range made.PodCIDRs {
			if err := addRoute(wireBridge, s, made.address(s.Addr())); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return made.space.Do(func() error {
		if err := up(underlayInterface); err != nil {
			return err
		}
		for _, a := range made.Addresses {
			if err := addAddress(underlayInterface, single(a)); err != nil {
				return err
			}
			outside := netip.MustParseAddr(outsideIPv6)
			if a.Is4() {
				outside = netip.MustParseAddr(outsideIPv4)
			}
			if err := addRoute(underlayInterface, single(outside), netip.Addr{}); err != nil {
				return err
			}
			if err := addRoute(underlayInterface, everything(a), outside); err != nil {
				return err
			}
		}
		return awaitAddresses()
	})
}

// reach adds routes to another node and to its Pods' subnets.
func (d *node) reach(other *node) error {
	return d.space.Do(func() error {
		for _, a := range other.Addresses {
			if err := addRoute(underlayInterface, single(a), netip.Addr{}); err != nil {
				return err
			}
		}
		for _, s := range other.PodCIDRs {
			if err := addRoute(underlayInterface, s, other.address(s.Addr())); err != nil {
				return err
			}
		}
		return nil
	})
}

// address is the node's own address of one family.
func (d *node) address(like netip.Addr) netip.Addr {
	for _, a := range d.Addresses {
		if a.Is4() == like.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// subnet is the node's Pods' subnet of one family.
func (d *node) subnet(like netip.Addr) netip.Prefix {
	for _, s := range d.PodCIDRs {
		if s.Addr().Is4() == like.Is4() {
			return s
		}
	}
	return netip.Prefix{}
}
