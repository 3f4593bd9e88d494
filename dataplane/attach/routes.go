package attach

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// route is a route that leads over an interface.
type route struct {
	// Text is for the reader; Raw is what is played back.
	Text string  `json:"text"`
	Raw  message `json:"raw"`
}

const routeHeader = unix.SizeofRtMsg

// Offsets in struct rtmsg and struct rtnexthop.
const (
	routeFamily    = 0
	routeLength    = 1
	routeTable     = 4
	routeProtocol  = 5
	routeFlags     = 8
	nexthopFlags   = 2
	nexthopIndex   = 4
	nexthopMinimum = unix.SizeofRtNexthop
	nexthopID      = 30 // RTA_NH_ID
)

// Flags that say what was asked for; the others of struct rtmsg and rtnexthop say how things are at the moment.
const routeFlagsAsked = unix.RTNH_F_ONLINK | unix.RTNH_F_PERVASIVE

// routesOf reads the routes over an interface in the calling thread's namespace: all tables of those families, without those
// that the kernel keeps by itself in table local.
func routesOf(index int, families ...uint8) ([]route, error) {
	var found []route
	for _, family := range families {
		header := &nl.RtMsg{}
		header.Family = family
		all, err := dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, header)
		if err != nil {
			return nil, fmt.Errorf("cannot list routes: %w", err)
		}
		for _, m := range all {
			r, ours, err := m.route(index)
			if err != nil {
				return nil, fmt.Errorf("cannot read a route: %w", err)
			}
			if ours {
				found = append(found, r)
			}
		}
	}
	return found, nil
}

// route turns what was dumped into what can be added again.
func (m message) route(index int) (r route, ours bool, err error) {
	header, attrs, err := m.split(routeHeader)
	if err != nil {
		return route{}, false, err
	}
	flags := binary.NativeEndian.Uint32(header[routeFlags:])
	if flags&unix.RTM_F_CLONED != 0 {
		return route{}, false, nil
	}
	if header[routeTable] == unix.RT_TABLE_LOCAL && header[routeProtocol] == unix.RTPROT_KERNEL {
		return route{}, false, nil
	}
	binary.NativeEndian.PutUint32(header[routeFlags:], flags&routeFlagsAsked)
	kept := make([]attribute, 0, len(attrs))
	for _, a := range attrs {
		switch a.kind {
		case unix.RTA_OIF:
			ours = ours || int(get32(a.value)) == index
		case unix.RTA_MULTIPATH:
			a.value = bytes.Clone(a.value)
			ours = eachNexthop(a.value, func(hop []byte) bool {
				hop[nexthopFlags] &= routeFlagsAsked
				return int(get32(hop[nexthopIndex:])) == index
			}) || ours
		case nexthopID:
			continue // the next hops themselves stand beside it, and nexthop objects end with their interface
		case unix.RTA_CACHEINFO:
			expiry := remainingSeconds(a.value)
			if expiry <= 0 {
				continue
			}
			a = attribute{kind: unix.RTA_EXPIRES, value: nl.Uint32Attr(uint32(expiry))}
		}
		kept = append(kept, a)
	}
	return route{Text: routeText(header, attrs), Raw: join(header, kept)}, ours, nil
}

// remainingSeconds is what struct rta_cacheinfo says about a route that expires; 0 for one that does not.
func remainingSeconds(cacheinfo []byte) int32 {
	const offset, ticks = 8, 100 // rta_expires, in USER_HZ
	if len(cacheinfo) < offset+4 {
		return 0
	}
	return get32(cacheinfo[offset:]) / ticks
}

// eachNexthop calls see for each struct rtnexthop of an RTA_MULTIPATH and says whether any call said true.
func eachNexthop(paths []byte, see func(hop []byte) bool) bool {
	seen := false
	for len(paths) >= nexthopMinimum {
		length := int(binary.NativeEndian.Uint16(paths))
		if length < nexthopMinimum || length > len(paths) {
			break
		}
		seen = see(paths[:length]) || seen
		paths = paths[min(len(paths), (length+3)&^3):]
	}
	return seen
}

func routeText(header message, attrs []attribute) string {
	dst, ok := netip.AddrFromSlice(find(attrs, unix.RTA_DST))
	text := "default"
	if ok {
		text = netip.PrefixFrom(dst, int(header[routeLength])).String()
	}
	if via, ok := netip.AddrFromSlice(find(attrs, unix.RTA_GATEWAY)); ok {
		text += " via " + via.String()
	}
	if table := find(attrs, unix.RTA_TABLE); table != nil && get32(table) != unix.RT_TABLE_MAIN {
		text += fmt.Sprintf(" table %d", get32(table))
	}
	return text
}

// reindexed leads the route over interface to instead of from.
func (r route) reindexed(from, to int) route {
	if from == to {
		return r
	}
	header, attrs, err := r.Raw.split(routeHeader)
	if err != nil {
		return r
	}
	move := func(b []byte) {
		if int(get32(b)) == from {
			put32(b, int32(to))
		}
	}
	for i, a := range attrs {
		attrs[i].value = bytes.Clone(a.value)
		switch a.kind {
		case unix.RTA_OIF:
			move(attrs[i].value)
		case unix.RTA_MULTIPATH:
			eachNexthop(attrs[i].value, func(hop []byte) bool { move(hop[nexthopIndex:]); return true })
		}
	}
	return route{Text: r.Text, Raw: join(header, attrs)}
}

// indirect says that the route has a gateway, which the kernel accepts only once it has a route to it.
func (r route) indirect() bool {
	_, attrs, err := r.Raw.split(routeHeader)
	return err == nil && (find(attrs, unix.RTA_GATEWAY) != nil || find(attrs, unix.RTA_VIA) != nil ||
		find(attrs, unix.RTA_MULTIPATH) != nil)
}

// same compares what was asked for, not when it expires.
func (r route) same(other route) bool {
	a, attrsA, errA := r.Raw.split(routeHeader)
	b, attrsB, errB := other.Raw.split(routeHeader)
	timeless := func(attrs []attribute) []attribute {
		var kept []attribute
		for _, a := range attrs {
			if a.kind != unix.RTA_EXPIRES {
				kept = append(kept, a)
			}
		}
		return kept
	}
	return errA == nil && errB == nil && bytes.Equal(join(a, timeless(attrsA)), join(b, timeless(attrsB)))
}

func contains(list []route, wanted route) bool {
	for _, r := range list {
		if r.same(wanted) {
			return true
		}
	}
	return false
}

// setRoutes makes exactly the wanted routes of one family lead over the interface, which had the index was when they were read.
func setRoutes(index int, wanted []route, was int, family uint8) error {
	var moved []route
	for _, r := range wanted {
		if r.Raw[routeFamily] == family {
			moved = append(moved, r.reindexed(was, index))
		}
	}
	present, err := routesOf(index, family)
	if err != nil {
		return err
	}
	for _, indirect := range []bool{false, true} {
		for _, r := range moved {
			if r.indirect() != indirect || contains(present, r) {
				continue
			}
			if err := r.add(); err != nil {
				return fmt.Errorf("cannot add the route %s: %w", r.Text, err)
			}
		}
	}
	for _, r := range present {
		if contains(moved, r) {
			continue
		}
		if err := send(unix.RTM_DELROUTE, 0, r.Raw); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cannot take away the route %s: %w", r.Text, err)
		}
	}
	return nil
}

func (r route) add() error {
	flags := unix.NLM_F_CREATE
	if r.Raw[routeFamily] == unix.AF_INET {
		flags |= unix.NLM_F_APPEND // keeps the order of routes that differ only in their next hop; IPv6 would merge them
	}
	err := send(unix.RTM_NEWROUTE, flags, r.Raw)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
