package network

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forgetStaleDatagrams makes the kernel forget UDP conversations that were sent to an endpoint which its Service does not have
// any more, or were sent nowhere before it had one. Otherwise a client that keeps using one socket would never reach another.
func forgetStaleDatagrams(services []ServiceMap) error {
	current := staleDatagrams{}
	for _, s := range services {
		if !strings.EqualFold(s.Protocol, "UDP") {
			continue
		}
		endpoints := map[netip.AddrPort]bool{}
		for _, e := range s.Endpoints {
			endpoints[e.AddrPort] = true
		}
		for _, list := range [][]netip.Addr{s.Addresses, s.ExternalAddresses} {
			for _, a := range list {
				current[netip.AddrPortFrom(a, s.Port)] = endpoints
			}
		}
	}
	if len(current) == 0 {
		return nil
	}
	for _, f := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, f, current)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("cannot make the kernel forget UDP conversations with former endpoints: %w", err)
		}
	}
	return nil
}

// staleDatagrams has, for each UDP Service, its present endpoints.
type staleDatagrams map[netip.AddrPort]map[netip.AddrPort]bool

// MatchConntrackFlow says that a conversation is to be forgotten.
func (s staleDatagrams) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	to, ok := netip.AddrFromSlice(flow.Forward.DstIP)
	from, ok2 := netip.AddrFromSlice(flow.Reverse.SrcIP)
	if !ok || !ok2 {
		return false
	}
	endpoints, ours := s[netip.AddrPortFrom(to.Unmap(), flow.Forward.DstPort)]
	return ours && !endpoints[netip.AddrPortFrom(from.Unmap(), flow.Reverse.SrcPort)]
}
