package openflow

import (
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
)

// Connection is what conntrack holds about one connection at one edge.
type Connection struct {
	// Protocol is conntrack's name of it: tcp, udp, sctp, icmp, icmpv6.
	Protocol string
	Zone     uint16
	Mark     uint32
	// InspectionID is the rule set that the engine applies to it; 0 when it is not inspected.
	InspectionID uint16
	EngineSlot   uint8
	// Epoch is that of the group that judged it; below 2 no group did.
	Epoch uint32
	// Line is the whole entry as Open vSwitch printed it.
	Line string
}

// Edge is the number of the edge whose connection it is.
func (c *Connection) Edge() uint16 {
	if c.Zone > ledger.HairpinZoneBase {
		return c.Zone - ledger.HairpinZoneBase
	}
	return c.Zone - ledger.ZoneBase
}

// Inspected says whether it goes through the engine.
func (c *Connection) Inspected() bool { return c.Mark&markInspect != 0 }

// inspectionIDs gives the InspectionIDs that the connections carry, sorted.
func inspectionIDs(connections []Connection) []uint16 {
	ids := map[uint16]bool{}
	for i := range connections {
		if c := &connections[i]; c.Inspected() {
			ids[c.InspectionID] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

var (
	entryZone  = regexp.MustCompile(`,zone=(\d+)`)
	entryMark  = regexp.MustCompile(`,mark=(0x[0-9a-f]+|\d+)`)
	entryLabel = regexp.MustCompile(`,labels=0x([0-9a-f]+)`)
)

// parseConnections reads what `ovs-appctl dpctl/dump-conntrack` prints. Entries of other zones are passed over, and so is what
// is no entry.
func parseConnections(text string) ([]Connection, error) {
	var list []Connection
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		zone := entryZone.FindStringSubmatch(line)
		if zone == nil {
			continue
		}
		number, err := strconv.ParseUint(zone[1], 10, 16)
		if err != nil || !isZone(number) {
			continue
		}
		c := Connection{Line: line, Zone: uint16(number)}
		c.Protocol, _, _ = strings.Cut(line, ",")
		if err := c.parseMarks(); err != nil {
			return nil, fmt.Errorf("Open vSwitch printed a connection that is not understood: %q: %w", line, err)
		}
		list = append(list, c)
	}
	return list, nil
}

// isZone tells whether a conntrack zone is an edge's.
func isZone(n uint64) bool {
	return n >= ledger.ZoneBase+ledger.EdgeFirst && n <= ledger.ZoneBase+ledger.EdgeLast ||
		n >= ledger.HairpinZoneBase+ledger.EdgeFirst && n <= ledger.HairpinZoneBase+ledger.EdgeLast
}

func (c *Connection) parseMarks() error {
	if m := entryMark.FindStringSubmatch(c.Line); m != nil {
		mark, err := strconv.ParseUint(m[1], 0, 32)
		if err != nil {
			return err
		}
		c.Mark = uint32(mark)
	}
	m := entryLabel.FindStringSubmatch(c.Line)
	if m == nil {
		return nil
	}
	label, ok := new(big.Int).SetString(m[1], 16)
	if !ok {
		return fmt.Errorf("the label %s is no number", m[1])
	}
	upper := new(big.Int).Rsh(label, labelIDShift).Uint64()
	c.InspectionID = uint16(upper & 0xfff)
	c.EngineSlot = uint8(upper >> 12 & 0xf)
	c.Epoch = uint32(upper >> (labelEpochShift - labelIDShift))
	return nil
}
