package openflow

import (
	"fmt"
	"slices"
	"strings"
)

// What is in a switch, for people.

// TableName gives a table's name; "" for a table that is not ours.
func TableName(number uint8) string {
	for _, d := range tableDocs {
		if uint8(d.table) == number {
			return d.name
		}
	}
	return ""
}

// TableOfDelivery is the table in which a packet goes out of the bridge: where it goes on after its last translation.
const TableOfDelivery = uint8(tableDeliver)

// NodeMark is the register of packets that the node itself sends, once its conntrack has told that no client hides behind it.
func NodeMark() string {
	return fmt.Sprintf("reg%d=%#x", fieldClient.reg, uint32(clientNode)<<fieldClient.lo)
}

// HairpinMark is the register that requests of a Pod to itself have at the server's side, as flows write it.
func HairpinMark() string {
	return fmt.Sprintf("reg%d=%#x", fieldHairpin.reg, uint32(1)<<fieldHairpin.lo)
}

// DenialOf gives the number of the denial that flows with this cookie are there for, and false for other flows.
func DenialOf(c uint64) (uint32, bool) {
	number, f := splitCookie(c)
	return number, f == featureDenial
}

// AllowsAtL4 tells of a flow that lets a connection pass since a rule without l7 is for it.
func AllowsAtL4(number uint8, c uint64, does []string) bool {
	_, f := splitCookie(c)
	inspects := slices.ContainsFunc(does, func(a string) bool { return strings.HasSuffix(a, "->reg7") })
	return table(number) == tablePortVerdict && f == featureGroup && !inspects && !slices.Contains(does, drop)
}

// Index finds a bundle's flows by what a switch tells of them.
type Index map[string]*Flow

// NewIndex makes the index of a bundle, which must not change then.
func NewIndex(b *Bundle) Index {
	x := make(Index, len(b.Flows))
	for i := range b.Flows {
		x[b.Flows[i].key()] = &b.Flows[i]
	}
	return x
}

// Find gives the flow of a table with that priority and match, or nil. Of one that the switch may have learned it knows what it is for.
func (x Index) Find(number uint8, priority int, match string) *Flow {
	f := &Flow{Table: number, Priority: priority, Match: match}
	if known := x[f.key()]; known != nil || table(number) != tableAffinity {
		return known
	}
	f.Comment = "A client that an endpoint keeps (session affinity): learned."
	return f
}

// Entry reads mark and label of a connection as flows write them ("0x480"); an empty one is 0.
func Entry(mark, label string) (Connection, error) {
	var c Connection
	if mark != "" {
		c.Line += ",mark=" + mark
	}
	if label != "" && label != "0" {
		c.Line += ",labels=" + label
	}
	err := c.parseMarks()
	c.Line = ""
	return c, err
}

// FailsOpen says whether it passes while the engine does not inspect.
func (c *Connection) FailsOpen() bool { return c.Mark&markFailOpen != 0 }

// Translated says whether it was translated at its edge.
func (c *Connection) Translated() bool { return c.Mark&markNATed != 0 }

// Tapped says whether inspections look at it.
func (c *Connection) Tapped() bool { return c.Mark&markTapped != 0 }
