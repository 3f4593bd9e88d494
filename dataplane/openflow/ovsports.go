package openflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// AddPorts adds ports in one ovs-vsctl transaction, which returns when ovs-vswitchd has taken it up, and reads their numbers.
func (s *OVS) AddPorts(ctx context.Context, names ...string) (map[string]uint32, error) {
	s.portsMu.Lock()
	defer s.portsMu.Unlock()
	before, err := s.Ports(ctx)
	if err != nil {
		return nil, err
	}
	var args []string
	for _, name := range names {
		args = append(args, "--", "--may-exist", "add-port", s.bridge(), name)
	}
	if len(args) > 0 {
		if _, err := s.vsctl(ctx, args[1:]...); err != nil {
			return nil, fmt.Errorf("adding ports %s to %s: %w", strings.Join(names, ", "), s.bridge(), err)
		}
	}
	now, err := s.Ports(ctx)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(now, func(name string, _ uint32) bool { return !slices.Contains(names, name) })
	if len(now) == len(slices.Compact(slices.Sorted(slices.Values(names)))) {
		if s.numbers == nil {
			s.numbers = map[string]uint32{}
		}
		maps.Copy(s.numbers, now)
		return now, nil
	}
	return nil, s.undoAddPorts(ctx, names, before, now)
}

// undoAddPorts takes off what AddPorts added, and says why a port does not work.
func (s *OVS) undoAddPorts(ctx context.Context, names []string, before, now map[string]uint32) error {
	var added, failed []string
	for _, name := range names {
		if _, there := before[name]; !there {
			added = append(added, name)
		}
		if _, works := now[name]; !works {
			failed = append(failed, fmt.Sprintf("%s (%s)", name, s.interfaceError(ctx, name)))
		}
	}
	err := fmt.Errorf("Open vSwitch cannot use %s as a port of %s: is the interface in the switch's network namespace?",
		strings.Join(failed, ", "), s.bridge())
	return errors.Join(err, s.delPorts(ctx, added))
}

// interfaceError gives what the switch says about an interface that it cannot use.
func (s *OVS) interfaceError(ctx context.Context, name string) string {
	text, err := s.vsctl(ctx, "--format=json", "--columns=error", "find", "interface", "name="+name)
	if err != nil {
		return err.Error()
	}
	var table struct {
		Data [][]any `json:"data"`
	}
	if json.Unmarshal([]byte(text), &table) != nil || len(table.Data) == 0 || len(table.Data[0]) == 0 {
		return "no reason given"
	}
	return strings.TrimSpace(fmt.Sprint(table.Data[0][0]))
}

// DelPorts takes ports off the bridge.
func (s *OVS) DelPorts(ctx context.Context, names ...string) error {
	s.portsMu.Lock()
	defer s.portsMu.Unlock()
	for _, name := range names {
		delete(s.numbers, name)
	}
	return s.delPorts(ctx, names)
}

func (s *OVS) delPorts(ctx context.Context, names []string) error {
	var args []string
	for _, name := range names {
		args = append(args, "--", "--if-exists", "del-port", s.bridge(), name)
	}
	if len(args) == 0 {
		return nil
	}
	if _, err := s.vsctl(ctx, args[1:]...); err != nil {
		return fmt.Errorf("taking ports %s off %s: %w", strings.Join(names, ", "), s.bridge(), err)
	}
	return nil
}

// portLine is a line like " 10(mkp1): addr:a6:38:87:83:a9:9a".
var portLine = regexp.MustCompile(`(?m)^ *(\d+)\((.+)\): addr:`)

// Ports asks the switch itself, not the database: only ports that work have a number there.
func (s *OVS) Ports(ctx context.Context) (map[string]uint32, error) {
	text, err := s.ofctl(ctx, "", "dump-ports-desc", s.bridge())
	if err != nil {
		return nil, fmt.Errorf("reading the ports of %s: %w", s.bridge(), err)
	}
	ports := map[string]uint32{}
	for _, m := range portLine.FindAllStringSubmatch(text, -1) {
		number, err := strconv.ParseUint(m[1], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("port %s of %s has the number %s: %w", m[2], s.bridge(), m[1], err)
		}
		ports[m[2]] = uint32(number)
	}
	return ports, nil
}

// samePorts tells whether the ports that were added still have the numbers that they had.
func (s *OVS) samePorts(ctx context.Context) (bool, error) {
	now, err := s.Ports(ctx)
	if err != nil {
		return false, err
	}
	s.portsMu.Lock()
	defer s.portsMu.Unlock()
	for name, number := range s.numbers {
		if now[name] != number {
			return false, nil
		}
	}
	return true, nil
}

// ConfiguredPorts asks the database.
func (s *OVS) ConfiguredPorts(ctx context.Context) ([]string, error) {
	text, err := s.vsctl(ctx, "list-ports", s.bridge())
	if err != nil {
		return nil, fmt.Errorf("listing the ports of %s: %w", s.bridge(), err)
	}
	return strings.Fields(text), nil
}
