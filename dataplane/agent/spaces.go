package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// space is a named network namespace, as the search for a Pod sees it.
type space struct {
	path  string
	inode uint64
	// interfaces are the names by address.
	interfaces map[netip.Addr]string
	// leadsOut tells which interfaces are up and have a default route.
	leadsOut map[string]bool
}

// interfaceOf names the interface that has all of the addresses; "" when there is none.
func (s space) interfaceOf(addresses []netip.Addr) string {
	var name string
	for i, a := range addresses {
		at := s.interfaces[a]
		if at == "" || i > 0 && at != name {
			return ""
		}
		name = at
	}
	return name
}

// listSpaces looks into every network namespace of a directory. The error is about those that it could not look into; the
// others are listed.
func listSpaces(dir string) ([]space, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("the node's network namespaces cannot be listed: %w", err)
	}
	var all []space
	var errs []error
	for _, entry := range entries {
		s, err := lookInto(filepath.Join(dir, entry.Name()))
		switch {
		case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.EINVAL): // it has just gone; a file where none is mounted
		case err != nil:
			errs = append(errs, fmt.Errorf("the network namespace %s: %w", entry.Name(), err))
		default:
			all = append(all, s)
		}
	}
	return all, errors.Join(errs...)
}

func lookInto(path string) (space, error) {
	s := space{path: path, interfaces: map[netip.Addr]string{}, leadsOut: map[string]bool{}}
	opened, err := netspace.Open(path)
	if err != nil {
		return s, err
	}
	defer opened.Close() //nolint:errcheck // nothing depends on it
	var info unix.Stat_t
	if err := unix.Fstat(opened.Fd(), &info); err != nil {
		return s, os.NewSyscallError("fstat", err)
	}
	s.inode = info.Ino
	handle, err := netlink.NewHandleAt(*opened.Handle(), unix.NETLINK_ROUTE)
	if err != nil {
		return s, err
	}
	defer handle.Close()
	return s, s.read(handle)
}

func (s *space) read(handle *netlink.Handle) error {
	links, err := handle.LinkList()
	if err != nil {
		return err
	}
	names, up := map[int]string{}, map[int]bool{}
	for _, link := range links {
		names[link.Attrs().Index], up[link.Attrs().Index] = link.Attrs().Name, link.Attrs().Flags&net.FlagUp != 0
	}
	addresses, err := handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && !ip.Unmap().IsLoopback() && !ip.IsLinkLocalUnicast() {
			s.interfaces[ip.Unmap()] = names[a.LinkIndex]
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := handle.RouteList(nil, family)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Dst == nil || slices.Max(append(r.Dst.IP, 0)) == 0 && onesOf(r.Dst) == 0 {
				if up[r.LinkIndex] {
					s.leadsOut[names[r.LinkIndex]] = true
				}
			}
		}
	}
	return nil
}

func onesOf(n *net.IPNet) int {
	ones, _ := n.Mask.Size()
	return ones
}
