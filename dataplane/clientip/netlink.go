package clientip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The library's own way to connections is a dump of all of them. Here is what asks for one, of ctnetlink (linux/netfilter/nfnetlink_conntrack.h).

const (
	getStatistics = 4  // IPCTNL_MSG_CT_GET_STATS_CPU
	statDrop      = 10 // CTA_STATS_DROP: a new connection found no room
	statEarlyDrop = 11 // CTA_STATS_EARLY_DROP: an entry made room for another
)

// tuple is one direction's addresses and ports.
type tuple struct {
	protocol            uint8
	source, destination netip.AddrPort
}

func (t tuple) reversed() tuple { return tuple{t.protocol, t.destination, t.source} }

// request begins a request to ctnetlink.
func (t *Table) request(message, flags int, family uint8) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|message, flags)
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: t.socket}
	r.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: unix.NFNETLINK_V0})
	return r
}

// get finds the entry that has a tuple, in either direction, and gives its tuple of requests and its tuple of replies. The error is
// unix.ENOENT when there is none.
func (t *Table) get(wanted tuple) (requests, replies tuple, err error) {
	family, source, destination := uint8(unix.AF_INET), nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
	if wanted.source.Addr().Is6() {
		family, source, destination = unix.AF_INET6, nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	// The acknowledgement tells that nothing more follows.
	r := t.request(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_ACK, family)
	attribute := nl.NewRtAttr(nl.CTA_TUPLE_ORIG|unix.NLA_F_NESTED, nil)
	addresses := attribute.AddRtAttr(nl.CTA_TUPLE_IP|unix.NLA_F_NESTED, nil)
	addresses.AddRtAttr(source, wanted.source.Addr().AsSlice())
	addresses.AddRtAttr(destination, wanted.destination.Addr().AsSlice())
	transport := attribute.AddRtAttr(nl.CTA_TUPLE_PROTO|unix.NLA_F_NESTED, nil)
	transport.AddRtAttr(nl.CTA_PROTO_NUM, []byte{wanted.protocol})
	transport.AddRtAttr(nl.CTA_PROTO_SRC_PORT, binary.BigEndian.AppendUint16(nil, wanted.source.Port()))
	transport.AddRtAttr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, wanted.destination.Port()))
	r.AddData(attribute)
	found, err := r.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return tuple{}, tuple{}, err
	}
	if len(found) == 0 {
		return tuple{}, tuple{}, errors.New("the kernel answers without an entry")
	}
	return parseEntry(found[0])
}

func parseEntry(message []byte) (requests, replies tuple, err error) {
	attributes, err := attributes(message[min(len(message), nl.SizeofNfgenmsg):])
	if err != nil {
		return tuple{}, tuple{}, err
	}
	requests, err = parseTuple(attributes[nl.CTA_TUPLE_ORIG])
	if err == nil {
		replies, err = parseTuple(attributes[nl.CTA_TUPLE_REPLY])
	}
	return requests, replies, err
}

func parseTuple(b []byte) (tuple, error) {
	parts, err := attributes(b)
	if err != nil {
		return tuple{}, err
	}
	addresses, err := attributes(parts[nl.CTA_TUPLE_IP])
	if err != nil {
		return tuple{}, err
	}
	transport, err := attributes(parts[nl.CTA_TUPLE_PROTO])
	if err != nil {
		return tuple{}, err
	}
	source, ok := netip.AddrFromSlice(append(addresses[nl.CTA_IP_V4_SRC], addresses[nl.CTA_IP_V6_SRC]...))
	destination, ok2 := netip.AddrFromSlice(append(addresses[nl.CTA_IP_V4_DST], addresses[nl.CTA_IP_V6_DST]...))
	protocol, from, to := transport[nl.CTA_PROTO_NUM], transport[nl.CTA_PROTO_SRC_PORT], transport[nl.CTA_PROTO_DST_PORT]
	if !ok || !ok2 || len(protocol) != 1 || len(from) != 2 || len(to) != 2 {
		return tuple{}, fmt.Errorf("a conntrack entry has no addresses or ports: %x", b)
	}
	return tuple{protocol[0], netip.AddrPortFrom(source, binary.BigEndian.Uint16(from)), netip.AddrPortFrom(destination, binary.BigEndian.Uint16(to))}, nil
}

// attributes takes a row of netlink attributes apart, by type.
func attributes(b []byte) (map[uint16][]byte, error) {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read what conntrack tells: %w", err)
	}
	all := make(map[uint16][]byte, len(list))
	for _, a := range list {
		all[a.Attr.Type&nl.NLA_TYPE_MASK] = a.Value
	}
	return all, nil
}

// evictions counts the entries that the kernel dropped, or did not make, for want of room.
func (t *Table) evictions() (uint64, error) {
	cpus, err := t.request(getStatistics, unix.NLM_F_DUMP, unix.AF_UNSPEC).Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, fmt.Errorf("cannot read the statistics of the node's conntrack: %w", err)
	}
	var n uint64
	for _, cpu := range cpus {
		counts, err := attributes(cpu[min(len(cpu), nl.SizeofNfgenmsg):])
		if err != nil {
			return 0, err
		}
		for _, kind := range [...]uint16{statDrop, statEarlyDrop} {
			if c := counts[kind]; len(c) == 4 {
				n += uint64(binary.BigEndian.Uint32(c))
			}
		}
	}
	return n, nil
}
