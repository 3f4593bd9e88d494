package flowexport

import (
	"context"
	"net/netip"
	"time"
)

// Source is where connections are read: NewKernel's or NewUserspace's.
type Source interface {
	// Dump calls take for each connection that the query asks for, in no order. The entry is the callee's only until take returns.
	Dump(ctx context.Context, q Query, take func(*Entry)) error
}

// Query says which connections are read.
type Query struct {
	// Protocols are IANA's numbers; nil stands for all.
	Protocols []uint8
	// Zones are the conntrack zones; nil stands for those of all edges that there can be.
	Zones []uint16
}

// Entry is a connection at one edge, as conntrack holds it.
type Entry struct {
	Protocol uint8
	// Client and Sent are the request's source and destination as the client sent it; Server and Answered the reply's source and
	// destination: Server differs from Sent after DNAT, Answered from Client after SNAT. Ports are 0 for protocols without.
	Client, Sent, Server, Answered netip.AddrPort
	// ICMPType, ICMPCode and ICMPID are a ping's.
	ICMPType, ICMPCode uint8
	ICMPID             uint16
	Zone               uint16
	Mark               uint32
	// InspectionID is the rule set that the engine applies to it; 0 when none. Epoch is that of the group that judged it.
	InspectionID uint16
	Epoch        uint32
	// Packets and Bytes are those of requests and of replies, when Counted: Open vSwitch in userspace does not count, and the kernel
	// only with net.netfilter.nf_conntrack_acct.
	Counted                  bool
	Packets, Bytes           uint64
	ReplyPackets, ReplyBytes uint64
	// ID is the kernel's number of the entry; 0 in userspace. Start is when it began; zero when that is not known.
	ID    uint32
	Start time.Time
	// TCPState is conntrack's, by its name (ESTABLISHED); empty for other protocols.
	TCPState string
	// Timeout is in how long conntrack forgets it, without further packets; 0 when that is not told.
	Timeout time.Duration
}
