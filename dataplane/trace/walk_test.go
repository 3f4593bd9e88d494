package trace_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// recorded is what a walk asked of Open vSwitch 3.5, and its answers, as they were printed: a line of JSON that says what was walked, and
// then each question in a line with ### before it, with the answer below.
type recorded struct {
	Pod, Node, EngineA, EngineB, Agent uint32

	MAC, Protocol  string
	Client, Server netip.AddrPort
	FromPod        bool

	answers map[string]string
}

func load(t testing.TB, path string) *recorded {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(text), "\n")
	r := &recorded{answers: map[string]string{}}
	if err := json.Unmarshal([]byte(head), r); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(rest, "### "), "\n### ") {
		question, answer, _ := strings.Cut(part, "\n")
		r.answers[question] = answer
	}
	return r
}

func (r *recorded) trace(_ context.Context, flow string, states []string, actions string) (string, error) {
	question := strings.TrimSpace(flow + " " + strings.Join(states, " ") + " " + actions)
	answer, ok := r.answers[question]
	if !ok {
		return "", fmt.Errorf("nobody has recorded the question %q", question)
	}
	return answer, nil
}

func (r *recorded) walk(ctx context.Context) (*trace.Ways, error) {
	return trace.Walk(ctx, r.trace, trace.Bridge{
		PodPort: r.Pod, NodePort: r.Node, MAC: r.MAC, Deliver: openflow.TableOfDelivery, Hairpin: ledger.IsHairpin, HairpinMark: openflow.HairpinMark(),
		Ports: map[uint32]trace.Port{
			r.Pod: {Behind: trace.Pod}, r.Node: {Behind: trace.Node}, r.Agent: {Behind: trace.Agent},
			r.EngineA: {Behind: trace.Engine, Back: r.EngineB}, r.EngineB: {Behind: trace.Engine, Back: r.EngineA},
		},
	}, trace.Connection{Protocol: r.Protocol, Client: r.Client, Server: r.Server, FromPod: r.FromPod})
}

// describe is what the golden files hold: the ways, and every flow with what it does.
func describe(w *trace.Ways) string {
	var b strings.Builder
	fmt.Fprintf(&b, "to %s\n", w.Server)
	for _, e := range w.Entries {
		fmt.Fprintf(&b, "zone %s: mark %s, label %s\n", e.Zone, e.Mark, e.Label)
	}
	write := func(arrow string, passes []trace.Pass) {
		for _, p := range passes {
			fmt.Fprintf(&b, "\n%s %s to %s, VLAN %d: %s to %s, then %s to %s\n", arrow, p.From, p.To, p.VLAN, p.In[0], p.In[1], p.Out[0], p.Out[1])
			for _, m := range p.Matches {
				fmt.Fprintf(&b, "  %s: priority=%d,%s (cookie %#x)", openflow.TableName(m.Table), m.Priority, m.Match.Match, m.Cookie)
				if m.CTState != "" {
					fmt.Fprintf(&b, " after conntrack said %s, %q", m.CTState, m.NAT)
				}
				b.WriteString("\n")
				for _, a := range m.Actions {
					fmt.Fprintf(&b, "    %s %s\n", a.Text, strings.Join(a.Notes, "; "))
				}
			}
		}
	}
	write("->", w.Request)
	write("<-", w.Reply)
	return b.String()
}

func TestWalk(t *testing.T) {
	files, err := filepath.Glob("testdata/*.in.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no recordings", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".in.txt"), func(t *testing.T) {
			w, err := load(t, file).walk(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			golden, got := strings.Replace(file, ".in.txt", ".out.txt", 1), describe(w)
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
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestBroken wants an error, and no half answer, of what is no whole trace.
func TestBroken(t *testing.T) {
	whole := slices.Collect(maps.Values(load(t, "testdata/denied.in.txt").answers))[0]
	for name, text := range map[string]string{
		"nothing":             "",
		"half of it":          whole[:len(whole)/2],
		"other recirculation": strings.Replace(whole, "resume conntrack with ct_state", "resume something with ct_state", 1),
		"no state":            strings.Replace(whole, "ct_state=new|trk", "new|trk", 1),
	} {
		if out, err := trace.Parse(text); err == nil {
			t.Errorf("%s: no error, but %+v", name, out)
		}
	}
	if _, err := trace.Parse(whole); err != nil {
		t.Error(err)
	}
}

// TestMiss reads a table without a flow for the packet.
func TestMiss(t *testing.T) {
	out, err := trace.Parse("Flow: tcp,in_port=1\n\nbridge(\"mk-br0\")\n----------------\n 0. No match.\n    drop\n\nFinal flow: unchanged\nMegaflow: tcp\nDatapath actions: drop\n")
	if err != nil {
		t.Fatal(err)
	}
	if m := out.Threads[0].Matches; len(m) != 1 || !m[0].Missed || out.Threads[0].Final != "tcp,in_port=1" {
		t.Errorf("%+v", out.Threads[0])
	}
}

// FuzzParse wants no panic, and the same again of what is understood.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.in.txt")
	for _, file := range files {
		for _, answer := range load(f, file).answers {
			f.Add(answer)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		out, err := trace.Parse(text)
		if err != nil {
			return
		}
		if len(out.Threads) == 0 {
			t.Error("no thread and no error")
		}
		again, err := trace.Parse(text)
		if err != nil || !cmp.Equal(out, again) {
			t.Errorf("another answer the second time: %v", err)
		}
	})
}
