package openflow

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// How actions refer to tables, groups and ports. ("goto_table:" contains no "table=".)
const (
	toGotoTable = "goto_table:"
	toResubmit  = "resubmit(,"
	toCtTable   = "table="
	toGroupID   = "group:"
	toPort      = "output:"
)

// check refuses a bundle that a switch would refuse, or would accept and then drop packets by: errors of Render, one flow twice,
// jumps backwards (but for the turn of a Pod's packets to itself, which is made once) or to tables without flows, groups that are not there. With ports, also those that are not on the bridge.
func check(b *Bundle, ports map[uint32]bool) error {
	c := checker{ports: ports, tables: map[uint8]bool{}, groups: map[uint32]bool{}, errs: []error{b.Err()}}
	for i := range b.Groups {
		c.once(c.groups[b.Groups[i].ID], &b.Groups[i])
		c.groups[b.Groups[i].ID] = true
	}
	seen := make(map[string]bool, len(b.Flows))
	for i := range b.Flows {
		f := &b.Flows[i]
		key := f.key()
		c.once(seen[key], f)
		seen[key] = true
		c.tables[f.Table] = true
	}
	for i := range b.Flows {
		c.references(&b.Flows[i], b.Flows[i].Actions, int(b.Flows[i].Table))
	}
	for i := range b.Groups {
		c.references(&b.Groups[i], b.Groups[i].Spec, -1)
	}
	return errors.Join(c.errs...)
}

type checker struct {
	ports  map[uint32]bool
	tables map[uint8]bool
	groups map[uint32]bool
	errs   []error
}

func (c *checker) fail(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

func (c *checker) once(already bool, what fmt.Stringer) {
	if already {
		c.fail("%s stands twice in one bundle: the switch would keep only one of them", what)
	}
}

func (c *checker) references(what fmt.Stringer, does string, from int) {
	does = learning.ReplaceAllString(does, "") // where it learns, no packet goes
	for _, marker := range [...]string{toGotoTable, toResubmit, toCtTable, toGroupID, toPort} {
		for rest := does; ; {
			_, after, found := strings.Cut(rest, marker)
			if !found {
				break
			}
			rest = after
			end := strings.IndexFunc(after, func(r rune) bool { return r < '0' || r > '9' })
			if end < 0 {
				end = len(after)
			}
			if number, err := strconv.ParseUint(after[:end], 10, 32); err == nil { // else it is a register
				c.reference(what, marker, from, uint32(number))
			}
		}
	}
}

func (c *checker) reference(what fmt.Stringer, marker string, from int, number uint32) {
	switch marker {
	case toGroupID:
		if !c.groups[number] {
			c.fail("%s sends packets to group %d, which is not there", what, number)
		}
	case toPort:
		if c.ports != nil && !c.ports[number] {
			c.fail("%s sends packets to port %d, which is not on the bridge: add the port first", what, number)
		}
	default:
		c.jump(what, from, int(number))
	}
}

func (c *checker) jump(what fmt.Stringer, from, to int) {
	switch {
	case to > 253 || !c.tables[uint8(to)]:
		c.fail("%s goes to table %d, which has no flows: its packets would be dropped", what, to)
	case to <= from && from != int(tableDeliver):
		c.fail("%s goes back from table %d to table %d: packets only go forward", what, from, to)
	}
}
