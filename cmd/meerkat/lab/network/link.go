package network

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}

// The functions below work in the calling thread's network namespace.

// setSysctls writes network settings: paths below /proc/sys/net, and values.
func setSysctls(settings ...[2]string) error {
	for _, s := range settings {
		err := os.WriteFile("/proc/sys/net/"+s[0], []byte(s[1]), 0)
		if errors.Is(err, fs.ErrNotExist) && s[0] == "bridge/bridge-nf-call-iptables" {
			return errors.New("the kernel has no br_netfilter, by which Services work between Pods of one node: modprobe br_netfilter")
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6, or one that is too old
			return fmt.Errorf("cannot set net.%s: %w", s[0], err)
		}
	}
	return nil
}

// quickAddresses makes IPv6 addresses usable at once: in a lab nobody else can have them.
func quickAddresses() error {
	return setSysctls([2]string{"ipv6/conf/all/accept_dad", "0"}, [2]string{"ipv6/conf/default/accept_dad", "0"},
		[2]string{"ipv4/conf/all/rp_filter", "0"}, [2]string{"ipv4/conf/default/rp_filter", "0"})
}

// setMinRTO sets the shortest time after which TCP sends a segment again.
func setMinRTO(d time.Duration) error {
	return setSysctls([2]string{"ipv4/tcp_rto_min_us", strconv.FormatInt(d.Microseconds(), 10)})
}

// awaitAddresses waits until all IPv6 addresses can be used, which the kernel decides in a work queue of its own.
func awaitAddresses() error {
	const patience = 3 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		addresses, err := netlink.AddrList(nil, netlink.FAMILY_V6)
		if err != nil {
			return fmt.Errorf("cannot list addresses: %w", err)
		}
		tentative := slices.IndexFunc(addresses, func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 })
		if tentative < 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the address %s does not become usable", addresses[tentative])
		}
	}
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("cannot find %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("cannot bring %s up: %w", name, err)
	}
	return nil
}

// makeBridge makes a bridge that keeps its MAC when ports come and go, and is up.
func makeBridge(name string, mac net.HardwareAddr) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = name, mac
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("cannot make the bridge %s: %w", name, err)
	}
	return up(name)
}

// makePort makes a veth pair, one end of which is a port of a bridge, the other an interface in another namespace. The bridge
// may send a packet out by the port that it came in by (hairpin): a Pod that reaches itself by its own Service needs it.
func makePort(name, bridge, peer string, peerMAC net.HardwareAddr, inside *netspace.Space, mtu int) error {
	master, err := netlink.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("cannot find the bridge %s: %w", bridge, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = name, mtu, master.Attrs().Index
	pair := &netlink.Veth{
		LinkAttrs: attrs, PeerName: peer, PeerHardwareAddr: peerMAC, PeerNamespace: netlink.NsFd(inside.Fd()), PeerTxQLen: -1,
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("cannot make the pair %s and %s: %w", name, peer, err)
	}
	if err := setSysctls([2]string{"ipv6/conf/" + name + "/disable_ipv6", "1"}); err != nil {
		return err
	}
	if err := netlink.LinkSetHairpin(pair, true); err != nil {
		return fmt.Errorf("cannot set hairpin mode of %s: %w", name, err)
	}
	return up(name)
}

func addAddress(name string, address netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("cannot find %s: %w", name, err)
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
		return fmt.Errorf("cannot give %s the address %s: %w", name, address, err)
	}
	return nil
}

// addRoute leads to a destination by a gateway, which is taken to be on the link; without a gateway, the destination itself is.
func addRoute(name string, to netip.Prefix, gateway netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("cannot find %s: %w", name, err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to)}
	if gateway.IsValid() {
		route.Gw = gateway.AsSlice()
		route.SetFlag(netlink.FLAG_ONLINK)
	} else {
		route.Scope = netlink.SCOPE_LINK
	}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("cannot add the route to %s over %s: %w", to, name, err)
	}
	return nil
}

func delRoute(name string, to netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("cannot find %s: %w", name, err)
	}
	err = netlink.RouteDel(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to)})
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("cannot remove the route to %s over %s: %w", to, name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func everything(like netip.Addr) netip.Prefix {
	if like.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// macOf is the MAC that bridge CNI plugins give to who has an address: the same one in every run.
func macOf(addresses []netip.Addr) net.HardwareAddr {
	for _, a := range addresses {
		if a.Is4() {
			return append(net.HardwareAddr{0x0a, 0x58}, a.AsSlice()...)
		}
	}
	for _, a := range addresses {
		return append(net.HardwareAddr{0x0a, 0x59}, a.AsSlice()[12:]...)
	}
	return nil
}
