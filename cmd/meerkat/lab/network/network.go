package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// Network is one lab's network. Its methods may be called concurrently.
type Network struct {
	name, directory string
	wire            string // the underlay's path

	mutex     sync.Mutex
	nodes     map[string]*node
	pods      map[podKey]*Pod
	order     []string // the nodes' names, as they were added
	services  []ServiceMap
	vlans     map[int]bool
	announced map[netip.Addr]string // Services' addresses outside of the cluster, by the node that they lead to
}

type podKey struct{ namespace, name string }

// Addresses that are handed out where the caller names none; the number is the node's, from 1. All of them live in namespaces
// of the lab's own, so they cannot meet the machine's.
const (
	nodeIPv4Format  = "172.31.0.%d"
	nodeIPv6Format  = "fd00:31::%x"
	podCIDRv4Format = "10.244.%d.0/24"
	podCIDRv6Format = "fd00:244:%x::/64"
	outsideIPv4     = "172.31.0.254"
	outsideIPv6     = "fd00:31::ffff"
	maxNodes        = 200
)

// Interfaces.
const (
	interfaceInPod    = "eth0"
	underlayInterface = "eth0" // a node's
	podBridge         = "cni0"
	wireBridge        = "br0"
)

// New makes an empty network for the lab of this name. It creates directory, for whoever works in this lab; Destroy removes
// it with all that is in it. New fails when a lab of that name exists, also when that is what is left of one that was killed.
func New(name, directory string) (*Network, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	n := &Network{name: name, directory: directory, nodes: map[string]*node{}, pods: map[podKey]*Pod{}}
	wire, err := netspace.Create(spaceName(name, wirePart))
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("a lab named %s is there already: choose another name, or, if it was killed, destroy what is left of it", name)
	}
	if err != nil {
		return nil, err
	}
	n.wire = wire
	if err := errors.Join(os.MkdirAll(directory, 0o755), netspace.Do(wire, setUpWire)); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot set up the lab %s: %w", name, err), n.Destroy())
	}
	return n, nil
}

// WireNetns is the path of the underlay's namespace. Processes there are outside of the cluster, at
// 172.31.0.254 and fd00:31::ffff: they reach nodes, and Pods by routes of their own, but no ClusterIP.
func (n *Network) WireNetns() string { return n.wire }

// NodeNetns is the path of a node's namespace.
func (n *Network) NodeNetns(name string) string {
	return netspace.Path(spaceName(n.name, nodePart+name))
}

// PodNetns is the path of a Pod's namespace.
func (n *Network) PodNetns(namespace, name string) string {
	return netspace.Path(spaceName(n.name, podPart+namespace+"."+name))
}

// freeAddress finds the first address of a subnet that nobody has, after the gateway's.
func (n *Network) freeAddress(subnet netip.Prefix) (netip.Addr, error) {
	for a := gatewayOf(subnet).Next(); subnet.Contains(a.Next()); a = a.Next() { // the last one is IPv4's broadcast address
		if !n.taken(a) {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("every address of %s is taken", subnet)
}

// taken says whether a Pod or a node has the address.
func (n *Network) taken(a netip.Addr) bool {
	for _, pod := range n.pods {
		if slices.Contains(pod.IPs, a) {
			return true
		}
	}
	for _, node := range n.nodes {
		if slices.Contains(node.Addresses, a) {
			return true
		}
		for _, subnet := range node.PodCIDRs {
			if gatewayOf(subnet) == a {
				return true
			}
		}
	}
	return false
}

// gatewayOf is the address that the node itself has in its Pods' subnet: the first.
func gatewayOf(subnet netip.Prefix) netip.Addr { return subnet.Masked().Addr().Next() }
