package openflow

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

// reference finds what an action refers to: tables, groups and ports.
var reference = regexp.MustCompile(`(goto_table:|resubmit\(,|ct\([^)]*?table=|group:|output:)(\d+)`)

// check refuses a bundle that a switch would refuse, or would accept and then drop packets by: errors of Render, one flow twice,
// jumps backwards or to tables without flows, groups that are not there. With ports, also those that are not on the bridge.
func check(b *Bundle, ports map[uint32]bool) error {
	c := checker{ports: ports, tables: map[uint8]bool{}, groups: map[uint32]bool{}, errs: []error{b.Err()}}
	for i := range b.Groups {
		c.once(c.groups[b.Groups[i].ID], "group", b.Groups[i].String())
		c.groups[b.Groups[i].ID] = true
	}
	seen := map[string]bool{}
	for i := range b.Flows {
		f := &b.Flows[i]
		c.once(seen[f.key()], "flow", f.String())
		seen[f.key()] = true
		c.tables[f.Table] = true
	}
	for i := range b.Flows {
		c.references("flow "+b.Flows[i].String(), b.Flows[i].Actions, int(b.Flows[i].Table))
	}
	for i := range b.Groups {
		c.references("group "+b.Groups[i].String(), b.Groups[i].Spec, -1)
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

func (c *checker) once(already bool, what, line string) {
	if already {
		c.fail("%s %s stands twice in one bundle: the switch would keep only one of them", what, line)
	}
}

func (c *checker) references(what, does string, from int) {
	for _, m := range reference.FindAllStringSubmatch(does, -1) {
		number, err := strconv.ParseUint(m[2], 10, 32)
		if err != nil {
			c.fail("%s refers to %s: %w", what, m[2], err)
			continue
		}
		switch m[1] {
		case "group:":
			if !c.groups[uint32(number)] {
				c.fail("%s sends packets to group %d, which is not there", what, number)
			}
		case "output:":
			if c.ports != nil && !c.ports[uint32(number)] {
				c.fail("%s sends packets to port %d, which is not on the bridge: add the port first", what, number)
			}
		default:
			c.jump(what, from, int(number))
		}
	}
}

func (c *checker) jump(what string, from, to int) {
	switch {
	case to > 253 || !c.tables[uint8(to)]:
		c.fail("%s goes to table %d, which has no flows: its packets would be dropped", what, to)
	case to <= from:
		c.fail("%s goes back from table %d to table %d: packets only go forward", what, from, to)
	}
}
