package flowexport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// What the library does not name of ctnetlink (linux/netfilter/nfnetlink_conntrack.h).
const (
	ctaFilter          = 25
	ctaFilterOrigFlags = 1
	// ctaFilterProtoNum is the flag by which the kernel compares the protocol (nf_internals.h).
	ctaFilterProtoNum = 1 << 3

	ctaProtoICMPID, ctaProtoICMPType, ctaProtoICMPCode       = 4, 5, 6
	ctaProtoICMPv6ID, ctaProtoICMPv6Type, ctaProtoICMPv6Code = 7, 8, 9
	ctaCountersPackets, ctaCountersBytes                     = 1, 2
	ctaTimestampStart                                        = 1
)

// Kernel reads the kernel's conntrack.
//
// The kernel filters by zone since Linux 6.8 and by protocol since 5.8; older ones pass over what they do not know, and all is filtered here.
type Kernel struct {
	// Netns is the path of the network namespace; "" is the caller's own.
	Netns string
	// late is for benchmarks: the kernel is asked for everything, and entries are filtered once they are parsed.
	late bool

	mu     sync.Mutex
	buffer []byte
	// ignores tells that the kernel does not filter by zone: asked for one, it told of others. It is asked once for all of them then. In the
	// dump in which that turns out, entries come repeatedly.
	ignores atomic.Bool
}

// maxKernelDumps is for how many zones, times protocols, the kernel is asked one by one. Each time it walks its whole table, which takes
// a millisecond or so; what is worth more is what it does not copy.
const maxKernelDumps = 16

// kernelDumpTimeout bounds the wait for each part of the kernel's answer, which comes at once.
const kernelDumpTimeout = 5 * time.Second

// Dump implements Source. It needs CAP_NET_ADMIN.
func (k *Kernel) Dump(ctx context.Context, q Query, take func(*Entry)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.buffer == nil {
		k.buffer = make([]byte, 64<<10)
	}
	socket, err := k.open()
	if err != nil {
		return fmt.Errorf("cannot read the kernel's connections (needs CAP_NET_ADMIN): %w", err)
	}
	defer socket.Close()
	w := newWanted(q)
	for _, part := range k.parts(q) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := k.dump(socket, part, w, take); err != nil {
			return fmt.Errorf("cannot read the kernel's connections: %w", err)
		}
	}
	return nil
}

func (k *Kernel) open() (socket *nl.NetlinkSocket, err error) {
	open := func() (err error) {
		socket, err = nl.Subscribe(unix.NETLINK_NETFILTER)
		return err
	}
	if k.Netns == "" {
		err = open()
	} else {
		err = netspace.Do(k.Netns, open)
	}
	if err != nil {
		return nil, err
	}
	wait := unix.NsecToTimeval(int64(kernelDumpTimeout))
	if err := unix.SetsockoptTimeval(socket.GetFd(), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		socket.Close()
		return nil, os.NewSyscallError("setsockopt", err)
	}
	return socket, nil
}

// part is what the kernel is asked for at once: 0 stands for all.
type part struct {
	zone     uint16
	protocol uint8
	// family is needed with a protocol.
	family uint8
}

func (k *Kernel) parts(q Query) []part {
	if k.late {
		return []part{{}}
	}
	protocols, zones := q.Protocols, q.Zones
	if len(protocols) == 0 || len(protocols) > 4 {
		if protocols != nil && len(protocols) == 0 {
			return nil // none is wanted
		}
		protocols = []uint8{0} // all of them
	}
	if zones == nil || k.ignores.Load() || len(zones)*len(protocols) > maxKernelDumps {
		zones = []uint16{0}
	}
	var parts []part
	for _, z := range zones {
		for _, p := range protocols {
			if p == 0 {
				parts = append(parts, part{zone: z})
				continue
			}
			parts = append(parts, part{z, p, unix.AF_INET}, part{z, p, unix.AF_INET6})
		}
	}
	return parts
}

func (k *Kernel) dump(socket *nl.NetlinkSocket, p part, w *wanted, take func(*Entry)) error {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: p.family, Version: unix.NFNETLINK_V0})
	if p.zone != 0 {
		r.AddData(nl.NewRtAttr(nl.CTA_ZONE, binary.BigEndian.AppendUint16(nil, p.zone)))
	}
	if p.protocol != 0 {
		original := nl.NewRtAttr(nl.CTA_TUPLE_ORIG|unix.NLA_F_NESTED, nil)
		original.AddRtAttr(nl.CTA_TUPLE_PROTO|unix.NLA_F_NESTED, nil).AddRtAttr(nl.CTA_PROTO_NUM, []byte{p.protocol})
		r.AddData(original)
		filter := nl.NewRtAttr(ctaFilter|unix.NLA_F_NESTED, nil)
		filter.AddRtAttr(ctaFilterOrigFlags, binary.NativeEndian.AppendUint32(nil, ctaFilterProtoNum))
		r.AddData(filter)
	}
	if err := socket.Send(r); err != nil {
		return err
	}
	var e Entry
	each := func(message []byte) {
		attributes := message[min(len(message), nl.SizeofNfgenmsg):]
		if !k.late {
			zone, protocol := glance(attributes)
			if p.zone != 0 && zone != p.zone {
				k.ignores.Store(true)
			}
			if !w.zone(zone) || !w.protocol(protocol) {
				return
			}
		}
		if parseKernelEntry(attributes, &e) && w.entry(&e) {
			take(&e)
		}
	}
	for {
		n, _, err := unix.Recvfrom(socket.GetFd(), k.buffer, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return os.NewSyscallError("recvfrom", err)
		}
		if done, err := messages(k.buffer[:n], r.Seq, each); done || err != nil {
			return err
		}
	}
}

// messages gives each message of a datagram that answers the request; done with the last one.
func messages(b []byte, sequence uint32, each func([]byte)) (done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.SizeofNlMsghdr || length > len(b) {
			return true, errors.New("the kernel's answer is cut short")
		}
		payload := b[unix.SizeofNlMsghdr:length]
		if binary.NativeEndian.Uint32(b[8:]) == sequence {
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return true, nil
			case unix.NLMSG_ERROR:
				if len(payload) >= 4 {
					if number := int32(binary.NativeEndian.Uint32(payload)); number != 0 {
						return true, syscall.Errno(-number)
					}
				}
				return true, nil
			default:
				each(payload)
			}
		}
		b = b[min(len(b), (length+3)&^3):]
	}
	return false, nil
}

// eachAttribute gives the attributes in a row of them, by type.
func eachAttribute(b []byte, take func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofNlAttr || length > len(b) {
			return
		}
		take(binary.NativeEndian.Uint16(b[2:])&nl.NLA_TYPE_MASK, b[unix.SizeofNlAttr:length])
		b = b[min(len(b), (length+3)&^3):]
	}
}

// glance reads what filters need.
func glance(attributes []byte) (zone uint16, protocol uint8) {
	eachAttribute(attributes, func(kind uint16, value []byte) {
		switch {
		case kind == nl.CTA_ZONE && len(value) == 2:
			zone = binary.BigEndian.Uint16(value)
		case kind == nl.CTA_TUPLE_ORIG:
			eachAttribute(value, func(kind uint16, value []byte) {
				if kind == nl.CTA_TUPLE_PROTO {
					eachAttribute(value, func(kind uint16, value []byte) {
						if kind == nl.CTA_PROTO_NUM && len(value) == 1 {
							protocol = value[0]
						}
					})
				}
			})
		}
	})
	return zone, protocol
}

// kernelStates are the kernel's states of TCP connections (nf_conntrack_tcp.h).
var kernelStates = []string{
	"", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT_1", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSED", "SYN_SENT",
}

// parseKernelEntry reads an entry. It is false for one that has no addresses.
func parseKernelEntry(attributes []byte, e *Entry) bool {
	*e = Entry{}
	var orig, reply tuple
	eachAttribute(attributes, func(kind uint16, value []byte) {
		switch kind {
		case nl.CTA_TUPLE_ORIG:
			e.Protocol = parseKernelTuple(value, &orig)
		case nl.CTA_TUPLE_REPLY:
			parseKernelTuple(value, &reply)
		case nl.CTA_COUNTERS_ORIG:
			e.Counted = true
			e.Packets, e.Bytes = parseCounters(value)
		case nl.CTA_COUNTERS_REPLY:
			e.Counted = true
			e.ReplyPackets, e.ReplyBytes = parseCounters(value)
		case nl.CTA_PROTOINFO:
			e.TCPState = parseKernelState(value)
		case nl.CTA_TIMESTAMP:
			eachAttribute(value, func(kind uint16, value []byte) {
				if kind == ctaTimestampStart && len(value) == 8 {
					e.Start = time.Unix(0, int64(binary.BigEndian.Uint64(value)))
				}
			})
		case nl.CTA_LABELS:
			if len(value) == 16 { // least significant byte first
				var label [16]byte
				for i, b := range value {
					label[15-i] = b
				}
				e.InspectionID, e.Epoch = fromLabel(label)
			}
		case nl.CTA_ZONE:
			if len(value) == 2 {
				e.Zone = binary.BigEndian.Uint16(value)
			}
		case nl.CTA_TIMEOUT, nl.CTA_MARK, nl.CTA_ID:
			if len(value) == 4 {
				e.setNumber(kind, binary.BigEndian.Uint32(value))
			}
		}
	})
	e.Client, e.Sent = orig.ends()
	e.Server, e.Answered = reply.ends()
	e.ICMPType, e.ICMPCode, e.ICMPID = orig.icmpType, orig.icmpCode, orig.icmpID
	return orig.source.IsValid() && orig.destination.IsValid() && reply.source.IsValid() && reply.destination.IsValid()
}

func (e *Entry) setNumber(kind uint16, n uint32) {
	switch kind {
	case nl.CTA_TIMEOUT:
		e.Timeout = time.Duration(n) * time.Second
	case nl.CTA_MARK:
		e.Mark = n
	case nl.CTA_ID:
		e.ID = n
	}
}

func parseKernelTuple(b []byte, t *tuple) (protocol uint8) {
	eachAttribute(b, func(kind uint16, value []byte) {
		switch kind {
		case nl.CTA_TUPLE_IP:
			eachAttribute(value, func(kind uint16, value []byte) {
				a, ok := netip.AddrFromSlice(value)
				switch {
				case !ok:
				case kind == nl.CTA_IP_V4_SRC || kind == nl.CTA_IP_V6_SRC:
					t.source = a
				case kind == nl.CTA_IP_V4_DST || kind == nl.CTA_IP_V6_DST:
					t.destination = a
				}
			})
		case nl.CTA_TUPLE_PROTO:
			eachAttribute(value, func(kind uint16, value []byte) {
				switch {
				case kind == nl.CTA_PROTO_NUM && len(value) == 1:
					protocol = value[0]
				case kind == nl.CTA_PROTO_SRC_PORT && len(value) == 2:
					t.from = binary.BigEndian.Uint16(value)
				case kind == nl.CTA_PROTO_DST_PORT && len(value) == 2:
					t.to = binary.BigEndian.Uint16(value)
				case (kind == ctaProtoICMPID || kind == ctaProtoICMPv6ID) && len(value) == 2:
					t.icmpID = binary.BigEndian.Uint16(value)
				case (kind == ctaProtoICMPType || kind == ctaProtoICMPv6Type) && len(value) == 1:
					t.icmpType = value[0]
				case (kind == ctaProtoICMPCode || kind == ctaProtoICMPv6Code) && len(value) == 1:
					t.icmpCode = value[0]
				}
			})
		}
	})
	return protocol
}

func parseCounters(b []byte) (packets, bytes uint64) {
	eachAttribute(b, func(kind uint16, value []byte) {
		switch {
		case len(value) != 8:
		case kind == ctaCountersPackets:
			packets = binary.BigEndian.Uint64(value)
		case kind == ctaCountersBytes:
			bytes = binary.BigEndian.Uint64(value)
		}
	})
	return packets, bytes
}

func parseKernelState(b []byte) (state string) {
	eachAttribute(b, func(kind uint16, value []byte) {
		if kind != nl.CTA_PROTOINFO_TCP {
			return
		}
		eachAttribute(value, func(kind uint16, value []byte) {
			if kind == nl.CTA_PROTOINFO_TCP_STATE && len(value) == 1 && int(value[0]) < len(kernelStates) {
				state = kernelStates[value[0]]
			}
		})
	})
	return state
}
