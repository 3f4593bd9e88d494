package openflow

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// defaultPriority is the priority of a flow that is printed without one.
const defaultPriority = 32768

// parseFlows reads what `ovs-ofctl --no-names --no-stats dump-flows` prints.
func parseFlows(text string) ([]Flow, error) {
	var flows []Flow
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.Contains(line, "actions=") {
			continue // a heading
		}
		f, err := parseFlow(line)
		if err != nil {
			return nil, fmt.Errorf("ovs-ofctl printed a flow that is not understood: %q: %w", line, err)
		}
		flows = append(flows, f)
	}
	return flows, nil
}

func parseFlow(line string) (Flow, error) {
	f := Flow{Priority: defaultPriority}
	head, does, _ := strings.Cut(line, "actions=")
	f.Actions = does
	parts := strings.Split(strings.TrimRight(head, ", "), ", ")
	var options []string
	var err error
	for i, part := range parts {
		switch key, value, _ := strings.Cut(part, "="); {
		case key == "cookie":
			f.Cookie, err = strconv.ParseUint(value, 0, 64)
		case key == "table":
			var n uint64
			n, err = strconv.ParseUint(value, 10, 8)
			f.Table = uint8(n)
		case i == len(parts)-1:
			err = f.parseMatch(part)
		default:
			options = append(options, part)
		}
		if err != nil {
			return f, err
		}
	}
	f.Options = strings.Join(options, ", ")
	return f, nil
}

// parseMatch reads "priority=5,ip,…", where either part may be absent.
func (f *Flow) parseMatch(text string) (err error) {
	if rest, ok := strings.CutPrefix(text, "priority="); ok {
		var priority string
		priority, text, _ = strings.Cut(rest, ",")
		f.Priority, err = strconv.Atoi(priority)
	}
	f.Match = text
	return err
}

// parseGroups reads what `ovs-ofctl --no-names dump-groups` prints.
func parseGroups(text string) ([]Group, error) {
	var groups []Group
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "group_id=")
		if !ok {
			continue // the heading
		}
		id, spec, _ := strings.Cut(rest, ",")
		number, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("ovs-ofctl printed a group that is not understood: %q: %w", line, err)
		}
		groups = append(groups, Group{ID: uint32(number), Spec: spec})
	}
	slices.SortFunc(groups, func(a, b Group) int { return cmp.Compare(a.ID, b.ID) })
	return groups, nil
}
