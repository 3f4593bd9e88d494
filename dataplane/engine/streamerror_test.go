package engine

import (
	"testing"
	"time"
)

// TestStreamErrorFilter: a dropped packet is TCP's to send again, and told of only when its connection hangs by it.
func TestStreamErrorFilter(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	drop := func(flow uint64, after time.Duration, iface string, seq, ack uint32) Event {
		return Event{
			FlowID: flow, Proto: "TCP", Interface: iface, Time: start.Add(after),
			Drop: &Drop{Reason: DropByStream, TCPSeq: seq, TCPAck: ack},
		}
	}
	syn := func(after time.Duration, seq uint32) Event {
		e := drop(1, after, "a", seq, 0)
		e.Drop.SYN = true
		return e
	}
	const ms = time.Millisecond
	type step struct {
		event Event
		held  bool
	}
	for name, steps := range map[string][]step{
		"sent again as TCP does": {
			{drop(1, 0, "a", 5, 7), true}, {drop(1, 200*ms, "a", 5, 7), true}, {drop(1, 600*ms, "a", 5, 7), true},
			{drop(1, 1400*ms, "a", 5, 7), false}, {drop(1, 3000*ms, "a", 5, 7), false},
		},
		"the SYN of a connection from a port that is still in use": {
			{drop(1, 0, "a", 5, 7), true}, {syn(300*ms, 90), true}, {syn(1300*ms, 90), false}, {syn(2300*ms, 90), false},
		},
		"a SYN and its copy, and that of another connection": {{syn(0, 90), true}, {syn(1*ms, 90), true}, {syn(900*ms, 95), true}},
		"many at once": {
			{drop(1, 0, "a", 5, 7), true}, {drop(1, 1*ms, "a", 5, 7), true}, {drop(1, 2*ms, "a", 5, 7), true},
			{drop(1, 3*ms, "a", 5, 7), true}, {drop(1, 4*ms, "a", 5, 7), true},
		},
		"a connection that gets on": {
			{drop(1, 0, "a", 5, 7), true}, {drop(1, 500*ms, "a", 6, 7), true}, {drop(1, 1000*ms, "a", 6, 8), true},
			{drop(1, 1500*ms, "b", 6, 8), true}, {drop(1, 2000*ms, "b", 7, 8), true}, {drop(1, 2500*ms, "b", 8, 8), true},
		},
		"probes of an idle connection": {
			{drop(1, 0, "a", 5, 7), true}, {drop(1, 15*time.Second, "a", 5, 7), true}, {drop(1, 30*time.Second, "a", 5, 7), true},
			{drop(1, 45*time.Second, "a", 5, 7), true}, {drop(1, 60*time.Second, "a", 5, 7), true},
		},
		"other connections": {
			{drop(1, 0, "a", 5, 7), true}, {drop(2, 500*ms, "a", 5, 7), true}, {drop(3, 1000*ms, "a", 5, 7), true},
			{drop(1, 1500*ms, "a", 5, 7), true}, {drop(1, 1600*ms, "a", 5, 7), true}, {drop(1, 1700*ms, "a", 5, 7), false},
		},
		"other reasons": {
			{Event{Proto: "TCP", Drop: &Drop{Reason: "rules"}}, false}, {Event{Proto: "TCP", Drop: &Drop{Reason: "flow drop"}}, false},
			{Event{Proto: "TCP", Drop: &Drop{Reason: "stream midstream"}}, false}, {Event{Proto: "TCP", Alert: &Alert{}}, false},
		},
	} {
		var f streamErrorFilter
		for i, s := range steps {
			if got := f.holds(s.event); got != s.held {
				t.Errorf("%s: step %d: holds = %v", name, i, got)
			}
		}
	}
	var f streamErrorFilter
	for flow := range uint64(3 * streamErrorFlows) {
		f.holds(drop(flow, 0, "a", 1, 1))
	}
	if len(f.flows) > streamErrorFlows {
		t.Errorf("it watches %d connections", len(f.flows))
	}
}
