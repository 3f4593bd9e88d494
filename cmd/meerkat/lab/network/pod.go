package network

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// PodSpec describes a Pod.
type PodSpec struct {
	Namespace, Name string
	// UID gives the CNI plugin's end of the pair its name, so that a Pod that is made again gets another; it may be empty.
	UID string
	// Node is the name of the node it runs on.
	Node string
	// IPs are its addresses. Without any, it gets the next free one of each of its node's subnets. One that is in no subnet of
	// its node is reached by a route of its own.
	IPs []netip.Addr
	// VLAN puts it on that VLAN of the underlay, in the nodes' own subnet there; 0: on its node's Pod bridge.
	VLAN int
	// MTU of its interface; 0 is 1500.
	MTU int
	// MinRTO is the shortest time after which its TCP sends a segment again; 0 is the kernel's, 200 ms. Kernels before 6.11 ignore it.
	MinRTO time.Duration
}

// Pod is a Pod that exists.
type Pod struct {
	Namespace, Name, Node string
	IPs                   []netip.Addr
	// Netns is the path of its network namespace, and Interface the name of its interface there.
	Netns, Interface string
	// HostInterface is the other end of its pair, in the node's namespace.
	HostInterface string

	vlan int
}

// AddPod makes a Pod. It is reached when AddPod returns.
func (n *Network) AddPod(spec PodSpec) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if err := n.addPod(spec); err != nil {
		return fmt.Errorf("cannot make the Pod %s/%s: %w", spec.Namespace, spec.Name, err)
	}
	return nil
}

// Pod says what a Pod was given.
func (n *Network) Pod(namespace, name string) (Pod, bool) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	pod, ok := n.pods[podKey{namespace, name}]
	if !ok {
		return Pod{}, false
	}
	return *pod, true
}

func (n *Network) addPod(spec PodSpec) (err error) {
	key := podKey{spec.Namespace, spec.Name}
	if n.pods[key] != nil {
		return errors.New("there is one of that name")
	}
	node := n.nodes[spec.Node]
	if node == nil {
		return fmt.Errorf("its node %q is not there", spec.Node)
	}
	pod := &Pod{
		Namespace: spec.Namespace, Name: spec.Name, Node: spec.Node, Interface: interfaceInPod,
		HostInterface: "veth" + shortHash(spec.UID+"/"+spec.Namespace+"/"+spec.Name),
		Netns:         n.PodNetns(spec.Namespace, spec.Name),
		vlan:          spec.VLAN,
	}
	bridge := podBridge
	if spec.VLAN != 0 {
		bridge = vlanBridge(spec.VLAN)
		if err := n.ensureVLAN(spec.VLAN); err != nil {
			return err
		}
	}
	if pod.IPs, err = n.podAddresses(spec, node); err != nil {
		return err
	}
	if _, err := netspace.Create(filepath.Base(pod.Netns)); err != nil {
		return err
	}
	space, err := netspace.Open(pod.Netns)
	if err != nil {
		return err
	}
	defer space.Close()                              //nolint:errcheck // nothing depends on it
	if err := space.Do(quickAddresses); err != nil { // before there is an interface, which inherits it
		return err
	}
	if spec.MinRTO > 0 {
		if err := space.Do(func() error { return setMinRTO(spec.MinRTO) }); err != nil {
			return err
		}
	}
	err = node.space.Do(func() error {
		return makePort(pod.HostInterface, bridge, pod.Interface, macOf(pod.IPs), space, spec.MTU)
	})
	if err != nil {
		return err
	}
	if err := space.Do(func() error { return pod.setUp(node) }); err != nil {
		return err
	}
	for _, name := range n.order {
		if err := n.nodes[name].reachPod(pod, node); err != nil {
			return err
		}
	}
	err = netspace.Do(n.wire, func() error { return pod.eachStray(node, wireBridge, addRoute) })
	if err != nil {
		return err
	}
	n.pods[key] = pod
	return nil
}

func (n *Network) podAddresses(spec PodSpec, node *node) (addresses []netip.Addr, err error) {
	for i, a := range spec.IPs {
		if n.taken(a) {
			return nil, fmt.Errorf("its address %s is taken", a)
		}
		for _, other := range spec.IPs[:i] {
			if other.Is4() == a.Is4() {
				return nil, fmt.Errorf("it has two addresses of one family, %s and %s", other, a)
			}
		}
		if !node.subnet(a).IsValid() {
			return nil, fmt.Errorf("its address %s is of a family that the node has no subnet of", a)
		}
	}
	if len(spec.IPs) > 0 {
		return spec.IPs, nil
	}
	for _, s := range node.PodCIDRs {
		a, err := n.freeAddress(s)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, a)
	}
	return addresses, nil
}

// setUp makes the Pod's own half, in its namespace.
func (p *Pod) setUp(node *node) error {
	for _, name := range []string{"lo", p.Interface} {
		if err := up(name); err != nil {
			return err
		}
	}
	for _, a := range p.IPs {
		subnet := node.subnet(a)
		gateway := gatewayOf(subnet)
		if p.vlan != 0 {
			subnet, gateway = vlanSubnet(p.vlan, a)
		}
		bits := subnet.Bits()
		if !subnet.Contains(a) {
			bits = a.BitLen()
		}
		if err := addAddress(p.Interface, netip.PrefixFrom(a, bits)); err != nil {
			return err
		}
		if err := addRoute(p.Interface, everything(a), gateway); err != nil {
			return err
		}
	}
	return awaitAddresses()
}

// strays are the Pod's addresses that its node's subnets do not contain.
func (p *Pod) strays(home *node) []netip.Addr {
	var strays []netip.Addr
	for _, a := range p.IPs {
		if p.vlan == 0 && !home.subnet(a).Contains(a) {
			strays = append(strays, a)
		}
	}
	return strays
}

// reachPod adds routes to those addresses of a Pod that no route to a subnet covers.
func (d *node) reachPod(pod *Pod, home *node) error {
	if home != d {
		return d.space.Do(func() error { return pod.eachStray(home, underlayInterface, addRoute) })
	}
	return d.space.Do(func() error {
		return pod.eachStray(home, podBridge, func(name string, to netip.Prefix, _ netip.Addr) error {
			return addRoute(name, to, netip.Addr{})
		})
	})
}

// eachStray calls do with a route to each of the Pod's strays by way of its node.
func (p *Pod) eachStray(home *node, over string, do func(name string, to netip.Prefix, gateway netip.Addr) error) error {
	for _, a := range p.strays(home) {
		if err := do(over, single(a), home.address(a)); err != nil {
			return err
		}
	}
	return nil
}

// forgetPod removes the routes to a Pod's strays.
func (n *Network) forgetPod(pod *Pod, home *node) error {
	del := func(name string, to netip.Prefix, _ netip.Addr) error { return delRoute(name, to) }
	err := netspace.Do(n.wire, func() error { return pod.eachStray(home, wireBridge, del) })
	for _, d := range n.nodes {
		over := underlayInterface
		if d == home {
			over = podBridge
		}
		err = errors.Join(err, d.space.Do(func() error { return pod.eachStray(home, over, del) }))
	}
	return err
}

// RemovePod takes a Pod away, with the processes in it. What it left in conntrack stays, as on a real node.
func (n *Network) RemovePod(namespace, name string) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	key := podKey{namespace, name}
	pod := n.pods[key]
	if pod == nil {
		return fmt.Errorf("there is no Pod %s/%s", namespace, name)
	}
	home := n.nodes[pod.Node]
	if err := n.forgetPod(pod, home); err != nil {
		return err
	}
	delete(n.pods, key)
	// The CNI plugin's end goes at once, as when its plugin is called; the namespace goes when nobody uses it any more.
	err := home.space.Do(func() error {
		link, err := netlink.LinkByName(pod.HostInterface)
		if _, absent := errors.AsType[netlink.LinkNotFoundError](err); absent {
			return nil
		}
		if err == nil {
			err = netlink.LinkDel(link)
		}
		return err
	})
	return errors.Join(err, endNamespaces([]string{filepath.Base(pod.Netns)}))
}
