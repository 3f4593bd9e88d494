package openflow

import (
	"fmt"
	"strings"
)

// Differences are how what a switch holds differs from what is wanted. Each line is a flow's or group's line of a dump.
type Differences struct {
	// Missing are wanted and not there.
	Missing []string
	// Foreign are there and not wanted.
	Foreign []string
	// Changed are there with other actions, buckets or cookies than wanted; the line is the wanted one.
	Changed []string
}

// Count is the number of flows and groups that differ.
func (d Differences) Count() int { return len(d.Missing) + len(d.Foreign) + len(d.Changed) }

// String says what differs in a sentence, with an example.
func (d Differences) String() string {
	if d.Count() == 0 {
		return "no drift"
	}
	example := append(append(append([]string{}, d.Missing...), d.Changed...), d.Foreign...)[0]
	return fmt.Sprintf("%d flows or groups are missing, %d changed, %d foreign, for one %q",
		len(d.Missing), len(d.Changed), len(d.Foreign), example)
}

// Drift gives the differences between what is wanted and what is present. It is pure.
func Drift(wanted, present *Bundle) Differences {
	var d Differences
	forEachDifference(wanted, present, func(kind difference, line, _ string) {
		switch kind {
		case missing:
			d.Missing = append(d.Missing, line)
		case changed:
			d.Changed = append(d.Changed, line)
		case foreign:
			d.Foreign = append(d.Foreign, line)
		}
	})
	return d
}

// Transaction gives the text that turns present into wanted when it is committed as one `ovs-ofctl bundle`, and "" when they are
// equal. Groups come before the flows that use them and go after those that did.
func Transaction(wanted, present *Bundle) string {
	var s strings.Builder
	forEachDifference(wanted, present, func(_ difference, _, command string) { s.WriteString(command + "\n") })
	return s.String()
}

type difference int

const (
	missing difference = iota
	changed
	foreign
)

// forEachDifference visits the differences in an order in which they can be committed. line is how the flow or group reads in a
// dump, command what mends the difference.
func forEachDifference(wanted, present *Bundle, visit func(kind difference, line, command string)) {
	haveGroups := map[uint32]string{}
	for i := range present.Groups {
		haveGroups[present.Groups[i].ID] = present.Groups[i].Spec
	}
	for i := range wanted.Groups {
		g := &wanted.Groups[i]
		have, there := haveGroups[g.ID]
		switch {
		case !there:
			visit(missing, g.String(), "group add "+g.String())
		case have != g.Spec:
			visit(changed, g.String(), "group mod "+g.String())
		}
		delete(haveGroups, g.ID)
	}
	flowDifferences(wanted, present, visit)
	for i := range present.Groups {
		g := &present.Groups[i]
		if _, unwanted := haveGroups[g.ID]; unwanted {
			visit(foreign, g.String(), fmt.Sprintf("group delete group_id=%d", g.ID))
		}
	}
}

func flowDifferences(wanted, present *Bundle, visit func(kind difference, line, command string)) {
	have := make(map[string]*Flow, len(present.Flows))
	for i := range present.Flows {
		have[present.Flows[i].key()] = &present.Flows[i]
	}
	for i := range wanted.Flows {
		f := &wanted.Flows[i]
		key := f.key()
		h, there := have[key]
		switch {
		case !there:
			visit(missing, f.String(), "flow add "+f.String())
		case h.Actions != f.Actions || h.Cookie != f.Cookie || h.Options != f.Options:
			visit(changed, f.String(), "flow add "+f.String())
		}
		delete(have, key)
	}
	for i := range present.Flows {
		f := &present.Flows[i]
		if _, unwanted := have[f.key()]; unwanted {
			visit(foreign, f.String(), "flow delete_strict "+f.key())
		}
	}
}
