package supervisor

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// network is what is known of the Pod's interfaces.
type network struct {
	// names are those of the interfaces to look at, the loopback interface last; links tell them from others of the same names.
	names []string
	links []string
	// home are the Pod's addresses.
	home []netip.Prefix
}

// look finds the interfaces that are up. A Pod's network namespace may have others, such as those that modules for tunnels make in each.
func look() (network, error) {
	all, err := net.Interfaces()
	if err != nil {
		return network{}, fmt.Errorf("the Pod's interfaces cannot be read: %w", err)
	}
	slices.SortStableFunc(all, func(a, b net.Interface) int { return loopback(a) - loopback(b) })
	var n network
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		n.names = append(n.names, i.Name)
		n.links = append(n.links, fmt.Sprintf("%d %s", i.Index, i.Name))
		if loopback(i) == 1 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			return network{}, fmt.Errorf("the addresses of %s cannot be read: %w", i.Name, err)
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
				n.home = append(n.home, netip.PrefixFrom(p.Addr().Unmap(), p.Addr().Unmap().BitLen()))
			}
		}
	}
	return n, nil
}

func loopback(i net.Interface) int {
	if i.Flags&net.FlagLoopback != 0 {
		return 1
	}
	return 0
}

func (n network) sameLinks(as network) bool { return slices.Equal(n.links, as.links) }
func (n network) sameHome(as network) bool  { return slices.Equal(n.home, as.home) }
