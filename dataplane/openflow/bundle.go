package openflow

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Bundle is everything that a bridge holds: flows and groups. Render makes the wanted one, Switch.Dump the present one.
// The zero value is an empty bridge.
type Bundle struct {
	// Flows are in the order of their tables; within a table in the order in which they were rendered.
	Flows []Flow
	// Groups are sorted by ID.
	Groups []Group
	// Denials says what the denial numbers in flows mean, sorted by number. Dump leaves it empty.
	Denials []Denial

	errs []error
}

// Flow is one flow, spelled as `ovs-ofctl --no-names --no-stats dump-flows` spells it.
type Flow struct {
	// Comment says which packets it is for. It never reaches the switch.
	Comment  string
	Cookie   uint64
	Table    uint8
	Priority int
	// Match is empty when the flow matches every packet.
	Match   string
	Actions string
	// Options is what a foreign flow carries beyond this ("idle_timeout=5"); empty in flows of ours.
	Options string
}

// Group is one select group.
type Group struct {
	Comment string
	ID      uint32
	// Spec is what follows the ID: type, selection method and buckets.
	Spec string
}

// Denial says what a denial number stands for: packets that carry it (see the package's DenialNumber) were denied at L4.
type Denial struct {
	Number uint32
	// Policies are "namespace/name"s, sorted.
	Policies  []string
	Direction plan.Direction
	// Reset asks the agent to answer with TCP resets.
	Reset bool
	// Full tells that no policy denied it: conntrack was full.
	Full bool
}

// Err gives what went wrong in Render, all of it. A Switch refuses to apply such a Bundle.
func (b *Bundle) Err() error { return errors.Join(b.errs...) }

func (b *Bundle) fail(format string, args ...any) {
	b.errs = append(b.errs, fmt.Errorf(format, args...))
}

// add appends a flow. The comment says which packets it is for.
func (b *Bundle) add(t table, priority int, c uint64, comment, match, actions string) {
	b.Flows = append(b.Flows, Flow{
		Comment: comment, Cookie: c, Table: uint8(t), Priority: priority, Match: match, Actions: actions,
	})
}

// key is what makes two flows the same flow to a switch.
func (f *Flow) key() string {
	return "table=" + strconv.Itoa(int(f.Table)) + ", " + f.keyInTable()
}

func (f *Flow) keyInTable() string {
	if f.Match == "" {
		return "priority=" + strconv.Itoa(f.Priority)
	}
	return "priority=" + strconv.Itoa(f.Priority) + "," + f.Match
}

// String is the flow's line in a dump.
func (f *Flow) String() string {
	options := ""
	if f.Options != "" {
		options = f.Options + ", "
	}
	return "cookie=0x" + strconv.FormatUint(f.Cookie, 16) + ", table=" + strconv.Itoa(int(f.Table)) + ", " + options +
		f.keyInTable() + " actions=" + f.Actions
}

// String is the group's line in a dump.
func (g *Group) String() string { return fmt.Sprintf("group_id=%d,%s", g.ID, g.Spec) }

// String gives the text that puts the Bundle on an empty bridge: what `ovs-ofctl -O OpenFlow15 bundle <bridge> -` reads. Each
// flow stands below a comment that says which packets it is for.
func (b *Bundle) String() string {
	var s strings.Builder
	for i := range b.Groups {
		fmt.Fprintf(&s, "# %s\ngroup add %s\n", b.Groups[i].Comment, b.Groups[i].String())
	}
	for i := range b.Flows {
		f := &b.Flows[i]
		if i == 0 || b.Flows[i-1].Table != f.Table {
			s.WriteString(tableHeading(table(f.Table)))
		}
		fmt.Fprintf(&s, "# %s\nflow add %s\n", f.Comment, f.String())
	}
	return s.String()
}

func tableHeading(t table) string {
	for _, d := range tableDocs {
		if d.table == t {
			return fmt.Sprintf("\n### %d %s: %s.\n", uint8(t), d.name, d.about)
		}
	}
	return fmt.Sprintf("\n### %d\n", uint8(t))
}

// same tells whether two bundles hold the same, in the same order.
func (b *Bundle) same(other *Bundle) bool {
	return slices.EqualFunc(b.Flows, other.Flows, func(x, y Flow) bool {
		x.Comment, y.Comment = "", ""
		return x == y
	}) && slices.EqualFunc(b.Groups, other.Groups, func(x, y Group) bool { return x.ID == y.ID && x.Spec == y.Spec })
}

var meterAction = regexp.MustCompile(`\bmeter:(\d+)`)

// meters gives the numbers, sorted, of our meters that a bridge with these flows needs; b may be nil.
func (b *Bundle) meters() []int {
	ids := []int{denialMeter, strayMeter}
	if b == nil {
		return ids
	}
	for i := range b.Flows {
		if !strings.Contains(b.Flows[i].Actions, "meter:") {
			continue
		}
		for _, m := range meterAction.FindAllStringSubmatch(b.Flows[i].Actions, -1) {
			if id, err := strconv.Atoi(m[1]); err == nil && id <= clientMeter {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Dump gives the flows and groups as sorted lines, without comments: two bridges that hold the same have the same Dump.
func (b *Bundle) Dump() string {
	c := b.sorted()
	var s strings.Builder
	for i := range c.Groups {
		s.WriteString(c.Groups[i].String() + "\n")
	}
	for i := range c.Flows {
		s.WriteString(c.Flows[i].String() + "\n")
	}
	return s.String()
}

// sorted gives a copy whose flows are sorted by table, priority (highest first) and match.
func (b *Bundle) sorted() *Bundle {
	c := &Bundle{Flows: slices.Clone(b.Flows), Groups: slices.Clone(b.Groups)}
	slices.SortFunc(c.Flows, func(x, y Flow) int {
		return cmp.Or(cmp.Compare(x.Table, y.Table), cmp.Compare(y.Priority, x.Priority), cmp.Compare(x.Match, y.Match),
			cmp.Compare(x.Actions, y.Actions), cmp.Compare(x.Cookie, y.Cookie))
	})
	slices.SortFunc(c.Groups, func(x, y Group) int { return cmp.Compare(x.ID, y.ID) })
	return c
}
