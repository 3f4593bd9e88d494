package openflow

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Counter tells how many packets have matched each flow of a bridge.
type Counter interface {
	// FlowCounts gives the counts by what Index.Find is asked by: see FlowKey. A count starts from 0 again when its flow changes.
	FlowCounts(ctx context.Context) (map[string]uint64, error)
}

var _ Counter = &OVS{}

// FlowKey is what tells a flow from all others.
func FlowKey(f *Flow) string { return f.key() }

// FlowCounts reads the switch's counters.
func (s *OVS) FlowCounts(ctx context.Context) (map[string]uint64, error) {
	text, err := s.ofctl(ctx, "", "--no-names", "dump-flows", s.bridge())
	if err != nil {
		return nil, fmt.Errorf("reading the counts of flows: %w", err)
	}
	return parseCounts(text)
}

var countedFlow = regexp.MustCompile(`table=(\d+), n_packets=(\d+), .*?priority=(\d+)(?:,(\S*))? actions=`)

func parseCounts(text string) (map[string]uint64, error) {
	counts := map[string]uint64{}
	for line := range strings.Lines(text) {
		m := countedFlow.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		table, tableErr := strconv.ParseUint(m[1], 10, 8)
		packets, packetsErr := strconv.ParseUint(m[2], 10, 64)
		priority, priorityErr := strconv.Atoi(m[3])
		if tableErr != nil || packetsErr != nil || priorityErr != nil {
			return nil, fmt.Errorf("Open vSwitch printed a flow that is not understood: %q", line)
		}
		counts[FlowKey(&Flow{Table: uint8(table), Priority: priority, Match: m[4]})] = packets
	}
	return counts, nil
}

// GroupOf gives the number of the group that flows with this cookie are there for, and false for other flows.
func GroupOf(c uint64) (uint32, bool) {
	number, f := splitCookie(c)
	return number, f == featureGroup
}
