package openflow

import "context"

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

	// Apply makes the bridge hold just what the bundle says. All changes take hold at once or not at all. Then it reads the bridge
	// back: when Apply returns nil, there was no drift.
	Apply(ctx context.Context, b *Bundle) error
	// Dump reads what the bridge holds.
	Dump(ctx context.Context) (*Bundle, error)

	// FlushZone forgets the connections of a conntrack zone.
	FlushZone(ctx context.Context, zone uint16) error
	// Connections gives the connections in the zones of edges (ledger.ZoneBase and above).
	Connections(ctx context.Context) ([]Connection, error)
	// InspectionIDs gives, sorted, the InspectionIDs that connections carry: all others may be given to another rule set.
	InspectionIDs(ctx context.Context) ([]uint16, error)
	// Denials gives how many packets were denied at L4, by denial number. A count starts from 0 again when its flow changes.
	Denials(ctx context.Context) (map[uint32]uint64, error)
}
