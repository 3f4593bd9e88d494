package openflow_test

import (
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files testdata/*.out.txt")

// renderInput is a testdata/*.in.yaml: the arguments of Render.
type renderInput struct {
	EngineUp bool                 `json:"engineUp"`
	EngineA  uint32               `json:"engineA"`
	Slot     uint8                `json:"engineSlot"`
	EngineB  uint32               `json:"engineB"`
	Agent    uint32               `json:"agent"`
	Edges    map[string]edgeInput `json:"edges"` // by "namespace/name"
	Groups   map[string]uint32    `json:"groups"`
	RuleSets map[string]uint16    `json:"ruleSets"`
	Taps     map[string]uint16    `json:"taps"`
	Slots    map[string]uint8     `json:"slots"`
	// Signatures are by profile.
	Signatures map[string]openflow.SignaturePorts `json:"signatures"`
	Plan       plan.NodePlan                      `json:"plan"`
}

type edgeInput struct {
	Number uint16 `json:"number"`
	Pod    uint32 `json:"pod"`
	Uplink uint32 `json:"uplink"`
	MAC    string `json:"mac"`
}

func podName(s string) types.NamespacedName {
	namespace, name, _ := strings.Cut(s, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func (in *renderInput) render(t *testing.T) *openflow.Bundle {
	t.Helper()
	numbers := ledger.Numbers{Edges: map[types.NamespacedName]uint16{}, Groups: in.Groups, RuleSets: in.RuleSets, Taps: in.Taps, Slots: in.Slots}
	ports := openflow.Ports{EngineSlot: in.Slot, EngineA: in.EngineA, EngineB: in.EngineB, Agent: in.Agent, Signatures: in.Signatures,
		Edges: map[types.NamespacedName]openflow.EdgePorts{}}
	for name, e := range in.Edges {
		mac, err := net.ParseMAC(e.MAC)
		if err != nil {
			t.Fatal(err)
		}
		numbers.Edges[podName(name)] = e.Number
		ports.Edges[podName(name)] = openflow.EdgePorts{Pod: e.Pod, Uplink: e.Uplink, MAC: mac}
	}
	return openflow.Render(&in.Plan, numbers, ports, in.EngineUp)
}

func goldenInputs(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	return files
}

func readInput(t *testing.T, file string) *renderInput {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in := &renderInput{}
	if err := yaml.UnmarshalStrict(content, in); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return in
}

func TestGolden(t *testing.T) {
	for _, file := range goldenInputs(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".in.yaml"), func(t *testing.T) {
			b := readInput(t, file).render(t)
			if err := b.Err(); err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(file, ".in.yaml") + ".out.txt"
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v (run the test with -update)", err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("flows differ from %s (-golden +rendered):\n%s", golden, diff)
			}
			if again := readInput(t, file).render(t); again.String() != b.String() {
				t.Error("the same arguments gave other bytes")
			}
		})
	}
}

// The real switch takes every golden file, and what it then holds reads, line for line, like what the Fake holds. So a golden
// file cannot be wrong and green, and a Fake's dump is what a real one would give.
func TestGoldenOnRealSwitch(t *testing.T) {
	t.Parallel()
	lab := ovstest.NewSwitch(t)
	ctx := ovstest.Context(t)
	for _, file := range goldenInputs(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".in.yaml"), func(t *testing.T) {
			in := readInput(t, file)
			b := in.render(t)
			if err := lab.Switch.Apply(ctx, b); err != nil {
				t.Fatal(err)
			}
			real, err := lab.Switch.Dump(ctx)
			if err != nil {
				t.Fatal(err)
			}
			fake := &openflow.Fake{}
			fakePorts(t, fake, b, in)
			if err := fake.Apply(ctx, b); err != nil {
				t.Fatal(err)
			}
			held, err := fake.Dump(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(real.Dump(), held.Dump()); diff != "" {
				t.Errorf("the dumps differ (-real +fake):\n%s", diff)
			}
			// The text that people read is the text that the switch reads.
			if err := lab.Switch.Apply(ctx, &openflow.Bundle{}); err != nil {
				t.Fatal(err)
			}
			text := filepath.Join(t.TempDir(), "bundle")
			if err := os.WriteFile(text, []byte(b.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			lab.OVS("ovs-ofctl", "-O", "OpenFlow15", "bundle", openflow.BridgeName, text)
			if real, err = lab.Switch.Dump(ctx); err != nil {
				t.Fatal(err)
			}
			if drift := openflow.Drift(b, real); drift.Count() != 0 {
				t.Errorf("the bundle's text gives other flows: %s", drift)
			}
		})
	}
}

// fakePorts gives the Fake ports of all numbers up to the highest that the input has.
func fakePorts(t *testing.T, fake *openflow.Fake, _ *openflow.Bundle, in *renderInput) {
	t.Helper()
	if err := fake.EnsureBridge(t.Context()); err != nil {
		t.Fatal(err)
	}
	highest := max(in.EngineA, in.EngineB, in.Agent)
	for _, e := range in.Edges {
		highest = max(highest, e.Pod, e.Uplink)
	}
	for _, p := range in.Signatures {
		highest = max(highest, p.A, p.B)
	}
	for i := range highest {
		if _, err := fake.AddPorts(t.Context(), "port"+string(rune('A'+i))); err != nil {
			t.Fatal(err)
		}
	}
}
