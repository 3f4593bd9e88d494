package attach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// identity is what an interface is given when it is put somewhere.
type identity struct {
	// Index is the wanted interface index; 0 leaves it to the kernel. Sockets that are bound to an interface, and the scope
	// ids of link-local addresses, know it by its index.
	Index  int              `json:"index"`
	MAC    net.HardwareAddr `json:"mac"`
	MTU    int              `json:"mtu"`
	TxQLen int              `json:"txQueueLength"`
	Group  uint32           `json:"group"`
	Alias  string           `json:"alias"`
	// Flags are those of carriedFlags that are set.
	Flags uint32 `json:"flags"`
}

// carriedFlags are the interface flags that move with a Pod's configuration, apart from UP.
const carriedFlags = unix.IFF_NOARP | unix.IFF_PROMISC | unix.IFF_ALLMULTI | unix.IFF_MULTICAST

func identityOf(link *netlink.LinkAttrs) identity {
	return identity{
		Index: link.Index, MAC: link.HardwareAddr, MTU: link.MTU, TxQLen: link.TxQLen, Group: link.Group, Alias: link.Alias,
		Flags: link.RawFlags & carriedFlags,
	}
}

// linkIn finds an interface by name; nil when there is none.
func linkIn(space *netspace.Space, name string) (link *netlink.LinkAttrs, kind string, err error) {
	err = space.Do(func() error {
		found, err := netlink.LinkByName(name)
		if _, absent := errors.AsType[netlink.LinkNotFoundError](err); absent {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot look for the interface %s in %s: %w", name, space.Path(), err)
		}
		link, kind = found.Attrs(), found.Type()
		return nil
	})
	return link, kind, err
}

// arePeers says whether a, in space inA, and b, in space inB, are the two ends of one pair.
func arePeers(a *netlink.LinkAttrs, inA *netspace.Space, b *netlink.LinkAttrs, inB *netspace.Space) (bool, error) {
	if a.ParentIndex != b.Index || b.ParentIndex != a.Index {
		return false, nil
	}
	same, err := netspace.Same(fdPath(inA), fdPath(inB))
	if err != nil || same {
		return same && a.NetNsID < 0, err
	}
	var id int
	err = inA.Do(func() error {
		var err error
		id, err = netlink.GetNetNsIdByFd(inB.Fd())
		return err
	})
	if err != nil {
		return false, fmt.Errorf("cannot tell how %s knows %s: %w", inA.Path(), inB.Path(), err)
	}
	return id >= 0 && id == a.NetNsID, nil
}

func fdPath(s *netspace.Space) string { return fmt.Sprintf("/proc/self/fd/%d", s.Fd()) }

// place moves an interface from one namespace into another, where it is down, has this name and this identity. The kernel
// does all of it in answer to one message, so that no other process ever finds it half way.
func place(from *netspace.Space, index int, to *netspace.Space, name string, id identity) error {
	move := func(id identity) error {
		return from.Do(func() error { return send(unix.RTM_SETLINK, 0, placement(index, to.Fd(), name, id)) })
	}
	err := move(id)
	if id.Index != 0 && (errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EINVAL)) {
		id.Index = 0 // taken meanwhile: any other serves nearly as well
		err = move(id)
	}
	if err != nil {
		return fmt.Errorf("cannot move interface %d of %s to %s as %s: %w", index, from.Path(), to.Path(), name, err)
	}
	return nil
}

func placement(index, fd int, name string, id identity) []byte {
	header := make([]byte, unix.SizeofIfInfomsg)
	put32(header[4:], int32(index))
	binary.NativeEndian.PutUint32(header[8:], id.Flags)
	binary.NativeEndian.PutUint32(header[12:], carriedFlags|unix.IFF_UP)
	attrs := []attribute{
		{unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(fd))},
		{unix.IFLA_IFNAME, nl.ZeroTerminated(name)},
		{unix.IFLA_ADDRESS, id.MAC},
		{unix.IFLA_MTU, nl.Uint32Attr(uint32(id.MTU))},
		{unix.IFLA_TXQLEN, nl.Uint32Attr(uint32(id.TxQLen))},
		{unix.IFLA_GROUP, nl.Uint32Attr(id.Group)},
		{unix.IFLA_IFALIAS, []byte(id.Alias)},
	}
	if id.Index != 0 {
		attrs = append(attrs, attribute{unix.IFLA_NEW_IFINDEX, nl.Uint32Attr(uint32(id.Index))})
	}
	return join(header, attrs)
}

// setFlags sets flags (IFF_UP, …) of an interface in the calling thread's namespace.
func setFlags(index int, flags uint32) error {
	header := make([]byte, unix.SizeofIfInfomsg)
	put32(header[4:], int32(index))
	binary.NativeEndian.PutUint32(header[8:], flags)
	binary.NativeEndian.PutUint32(header[12:], flags)
	return send(unix.RTM_SETLINK, 0, header)
}

// quieten makes the node's own network stack neither speak nor listen on a port of the bridge, which it otherwise would where
// the bridge is one in user space: it would answer ARP questions for the node's addresses with the port's MAC, and announce
// itself by IPv6. To be called in the port's namespace before the port is up.
func quieten(link *netlink.LinkAttrs) error {
	settings := sysctls{
		"ipv6/conf/" + link.Name + "/disable_ipv6": "1",
		// Strict: no route leads over the port, so that every IP packet that the stack itself would take from it is dropped.
		"ipv4/conf/" + link.Name + "/rp_filter": "1",
	}
	if err := settings.apply(); err != nil {
		return err
	}
	if err := setFlags(link.Index, unix.IFF_NOARP); err != nil {
		return fmt.Errorf("cannot switch ARP off on %s: %w", link.Name, err)
	}
	return nil
}
