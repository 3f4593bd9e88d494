package openflow

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// BridgeName is the bridge that Meerkat owns: whatever is on it and not wanted is deleted.
const BridgeName = "mk-br0"

// Switch is one bridge. OVS is the real one, Fake one for tests. All methods may be called from several goroutines. Errors say
// what failed, what the program answered, and what to do.
type Switch interface {
	// EnsureBridge makes the bridge, without ports and flows, when it is not there. Without flows it forwards nothing.
	EnsureBridge(ctx context.Context) error
	// DeleteBridge removes the bridge with its flows; the interfaces that were its ports stay where they are.
	DeleteBridge(ctx context.Context) error

	// AddPorts makes interfaces of the switch's network namespace ports of the bridge, all in one transaction, and gives the port
	// numbers once the switch uses them. An interface that is a port already keeps its number. When an interface cannot be used the
	// error names it, and none of the new ones stays a port.
	AddPorts(ctx context.Context, names ...string) (map[string]uint32, error)
	// DelPorts takes ports off the bridge, all in one transaction. Names that are no ports are passed over.
	DelPorts(ctx context.Context, names ...string) error
	// Ports gives the bridge's ports that work, by interface name, without the bridge's own.
	Ports(ctx context.Context) (map[string]uint32, error)
	// ConfiguredPorts gives the names of the bridge's ports, also of those whose interfaces are not there, without the bridge's own.
	ConfiguredPorts(ctx context.Context) ([]string, error)

	// Apply makes the bridge hold just what the bundle says. All changes take hold at once or not at all. Then it reads the bridge
	// back: when Apply returns nil, there was no drift.
	Apply(ctx context.Context, b *Bundle) error
	// Dump reads what the bridge holds.
	Dump(ctx context.Context) (*Bundle, error)

	// Watch keeps the bridge as the last Apply left it, or as it is found when there was none and it has flows, until ctx is done: what others change is changed back at once, and a
	// switch that was restarted gets its flows again. The watcher's functions are called from a goroutine of Watch's, one at a
	// time; they must not block for long.
	Watch(ctx context.Context, w Watcher)

	// FlushZone forgets the connections of a conntrack zone.
	FlushZone(ctx context.Context, zone uint16) error
	// Connections gives the connections in the zones of edges (ledger.ZoneBase and above).
	Connections(ctx context.Context) ([]Connection, error)
	// InspectionIDs gives, sorted, the InspectionIDs that connections carry: all others may be given to another rule set.
	InspectionIDs(ctx context.Context) ([]uint16, error)
	// Denials gives how many packets were denied at L4, by denial number. A count starts from 0 again when its flow changes.
	Denials(ctx context.Context) (map[uint32]uint64, error)
	// ConntrackUse gives how many connections the datapath holds, of everybody, and how many it can. The error is errors.ErrUnsupported
	// where the datapath uses the kernel's conntrack.
	ConntrackUse(ctx context.Context) (used, limit uint64, err error)
	// CopiesDropped gives how many copies for each signature engine its meter has dropped, by slot. A count starts from 0 again when
	// the switch does.
	CopiesDropped(ctx context.Context) (map[uint8]uint64, error)
	// ClientsDropped gives how many packets from the node's own addresses were dropped, since more came in a second than may be asked for.
	// The count starts from 0 again when the switch does.
	ClientsDropped(ctx context.Context) (uint64, error)
	// LimitCopies limits how many copies a second the signature engine in a slot gets, for as long as this Switch is used: at most
	// MaxCopies. The engine's meter must be there: Apply makes it with the first flows that use it.
	LimitCopies(ctx context.Context, slot uint8, rate uint32) error
}

// Watcher is told what happens to a bridge. All fields are required.
type Watcher struct {
	// Mended is told when the bridge holds again what it should, after others have changed it.
	Mended func(Mending)
	// Down is told when the switch cannot be reached, and again and again while that lasts. The error says why.
	Down func(err error)
	// Up is told when the switch can be reached, also the first time. When its ports still have the numbers that they had, its
	// flows have been put back already; otherwise samePorts is false, the bridge holds no flows, and another Apply is needed.
	Up func(samePorts bool)
}

// Overwritten counts what others did to a bridge.
type Overwritten struct {
	// Added, Removed and Changed are flows, Groups and Meters those that were touched in any way.
	Added, Removed, Changed, Groups, Meters int
}

func (o *Overwritten) add(more Overwritten) {
	o.Added += more.Added
	o.Removed += more.Removed
	o.Changed += more.Changed
	o.Groups += more.Groups
	o.Meters += more.Meters
}

// Mending is one time that a bridge was put right after others had changed it.
type Mending struct {
	Overwritten
	// Seen is when the first of the changes was told by the switch, Done when all were undone.
	Seen, Done time.Time
	// Limited tells that it had to wait, since there were too many before it.
	Limited bool
	// Err is why it did not succeed. It is tried again then.
	Err error
}

// String says it in a few words.
func (o Overwritten) String() string {
	var parts []string
	for _, p := range []struct {
		count int
		what  string
	}{
		{o.Removed, "flows removed"}, {o.Added, "flows added"}, {o.Changed, "flows changed"},
		{o.Groups, "changes to groups"}, {o.Meters, "changes to meters"},
	} {
		if p.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.count, p.what))
		}
	}
	return strings.Join(parts, ", ")
}
