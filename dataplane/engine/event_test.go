package engine

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The inputs are what the real engine wrote about real traffic.
func TestDecodeEventGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/events/*.in.json")
	if err != nil || len(inputs) < 10 {
		t.Fatalf("%d inputs, %v", len(inputs), err)
	}
	for _, in := range inputs {
		t.Run(filepath.Base(in), func(t *testing.T) {
			line, err := os.ReadFile(in)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			if e, err := DecodeEvent(line); err != nil {
				got = "error: " + err.Error() + "\n"
			} else {
				e.Time = e.Time.UTC()
				text, err := json.MarshalIndent(e, "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				got = string(text) + "\n"
			}
			golden := strings.TrimSuffix(in, ".in.json") + ".out.txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestDecodeEventErrors(t *testing.T) {
	const header = `"timestamp":"2026-11-21T21:31:42.208213+0000","src_ip":"10.0.0.1","dest_ip":"10.0.0.2"`
	for line, want := range map[string]string{
		``:                                     "not an event",
		`{`:                                    "not an event",
		`[]`:                                   "not an event",
		`{"event_type":"alert"}`:               "timestamp",
		`{"event_type":"flow"}`:                ErrNotReported.Error(),
		`{"event_type":"drop",` + header + `}`: "without its content",
		`{"event_type":"drop","drop":{},"timestamp":"2026-11-21T21:31:42.208213+0000","src_ip":"x"}`: "address",
		`{"event_type":"drop","drop":{},"vlan":[70000],` + header + `}`:                              "not an event",
	} {
		if _, err := DecodeEvent([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("DecodeEvent(%s) = %v, want an error with %q", line, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	inputs, _ := filepath.Glob("testdata/events/*.in.json")
	for _, in := range inputs {
		line, err := os.ReadFile(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := DecodeEvent(line)
		if err == nil && e.Alert == nil && e.Drop == nil {
			t.Errorf("an event without content from %q", line)
		}
	})
}

func TestGateFilter(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	drop := func(flow uint64, proto string, after time.Duration, reason string) Event {
		return Event{FlowID: flow, Proto: proto, Time: start.Add(after), Drop: &Drop{Reason: reason}}
	}
	syn := drop(4, "TCP", 0, DropByGate)
	syn.Drop.SYN = true
	var g gateFilter
	for i, step := range []struct {
		event Event
		held  bool
	}{
		{drop(1, "TCP", 0, DropByGate), true},
		{drop(1, "TCP", 200*time.Millisecond, DropByGate), true},
		{drop(2, "TCP", 600*time.Millisecond, DropByGate), true}, // another connection has its own clock
		{drop(1, "TCP", 600*time.Millisecond, DropByGate), false},
		{drop(3, "UDP", 0, DropByGate), false},
		{syn, false},
		{drop(5, "TCP", 0, "rules"), false},
		{Event{Proto: "TCP", Alert: &Alert{}}, false},
	} {
		if got := g.holds(step.event); got != step.held {
			t.Errorf("step %d: holds = %v", i, got)
		}
	}
}

func TestGateFilterIsBounded(t *testing.T) {
	var g gateFilter
	for flow := range uint64(3 * gateFlows) {
		g.holds(Event{FlowID: flow, Proto: "TCP", Drop: &Drop{Reason: DropByGate}})
	}
	if len(g.first) > gateFlows {
		t.Errorf("it watches %d connections", len(g.first))
	}
}

// Lines that make no sense are counted and hurt no other line.
func TestEventServer(t *testing.T) {
	good, err := os.ReadFile("testdata/events/http1-alert.in.json")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, nil, 0o600); err != nil { // what a dead process left
		t.Fatal(err)
	}
	s, err := listenEvents(path, make(chan Event, 2), nil)
	if err != nil {
		t.Fatal(err)
	}
	garbage := "\x00\xff{{{\n\n" + strings.Repeat("x", 2*maxEventLine) + "\n"
	s.read(strings.NewReader(garbage + strings.Repeat(string(good), 3) + `{"cut`))
	if d, l, b := s.delivered.Load(), s.lost.Load(), s.bad.Load(); d != 2 || l != 1 || b != 4 {
		t.Errorf("delivered %d, lost %d, bad %d", d, l, b)
	}
	s.close()
	close(s.events)
	n := 0
	for range s.events {
		n++
	}
	if n != 2 {
		t.Errorf("%d events", n)
	}
}

func TestEventsNotReported(t *testing.T) {
	line, err := os.ReadFile("testdata/events/probe-not-reported.in.json")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeEvent(line); !errors.Is(err, ErrNotReported) {
		t.Error(err)
	}
}
