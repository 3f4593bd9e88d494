package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// localAddresses are the addresses of the node's own interfaces, sorted.
func localAddresses(netns string) ([]netip.Addr, error) {
	var all []netip.Addr
	err := netspace.Do(netns, func() error {
		found, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, a := range found {
			if ip, ok := netip.AddrFromSlice(a.IP); ok && !ip.IsLoopback() {
				all = append(all, ip.Unmap())
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("the node's own addresses cannot be read: %w", err)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all), nil
}

// watchAddresses calls changed after each change of the node's own addresses, until ctx ends.
func watchAddresses(ctx context.Context, netns string, changed func()) error {
	space, err := netspace.Open(netns)
	if err != nil {
		return err
	}
	defer space.Close() //nolint:errcheck // the subscription has a socket of its own
	updates := make(chan netlink.AddrUpdate, 64)
	if err := netlink.AddrSubscribeWithOptions(updates, ctx.Done(), netlink.AddrSubscribeOptions{
		Namespace: space.Handle(), ErrorCallback: func(error) { changed() },
	}); err != nil {
		return fmt.Errorf("changes of the node's own addresses cannot be watched: %w", err)
	}
	go func() {
		for u := range updates {
			if u.LinkAddress.IP != nil && !u.LinkAddress.IP.IsLoopback() {
				changed()
			}
		}
	}()
	return nil
}

// namespaceInode names the namespace at a path; "" is this process's own.
func namespaceInode(netns string) (uint64, error) {
	if netns == "" {
		netns = netspace.Current
	}
	return inodeOf(netns)
}
