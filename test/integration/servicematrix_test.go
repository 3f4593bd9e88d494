package integration

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/kubeproxy"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

var update = flag.Bool("update", false, "rewrite docs/service-matrix.md")

const (
	serviceMatrix = "../scenarios/service-matrix/scenario.yaml"
	matrixPage    = "../../docs/service-matrix.md"
)

// TestServiceMatrix plays every way into a Pod, with the real kube-proxy in both modes and without, and looks at the packets at four
// points. The table in docs is made of what it finds.
func TestServiceMatrix(t *testing.T) {
	t.Parallel()
	bin, err := exec.CommandContext(t.Context(), "../../hack/kube/build.sh", "kube-proxy").Output()
	if err != nil {
		t.Fatalf("kube-proxy cannot be built: %v", err)
	}
	modes := []kubeproxy.Mode{"", kubeproxy.NFTables, kubeproxy.IPTables}
	reports := make([]*scenario.Report, len(modes))
	t.Run("play", func(t *testing.T) {
		for i, mode := range modes {
			t.Run(modeName(mode), func(t *testing.T) {
				t.Parallel()
				reports[i] = playMatrix(t, mode, strings.TrimSpace(string(bin))+"/kube-proxy")
			})
		}
	})
	for i := range reports {
		if reports[i] == nil || !reports[i].Passed() {
			return // it has been told
		}
		for r := range reports[i].Rows {
			if c := &reports[i].Rows[r].Cell; c.Column != "" {
				c.Column += ", " + modeName(modes[i])
			}
		}
	}
	compareTable(t, "lab", scenario.NewMatrix(reports...).Markdown("way in"))
}

func modeName(m kubeproxy.Mode) string {
	if m == "" {
		return "lab"
	}
	return string(m)
}

func playMatrix(t *testing.T, mode kubeproxy.Mode, program string) *scenario.Report {
	t.Helper()
	prepared, err := lab.Prepare(serviceMatrix)
	if err != nil {
		t.Fatal(err)
	}
	opts := labs.Options(t)
	opts.Nodes, opts.KubeProxy, opts.KubeProxyProgram, opts.Progress = prepared[0].Nodes, mode, program, nil
	l := testlab.Start(t, opts, prepared[0].Manifests...)
	points := lookEverywhere(t, l, prepared[0].Objects, "node-1", "node-2")
	traced := newTraces(t)
	report := scenario.Run(t.Context(), prepared[0].Scenario, points.dialing, scenario.Options{Tried: func(tried scenario.Tried) { traced.tried(l, tried) }})
	if !report.Passed() {
		var table bytes.Buffer
		if err := report.WriteTable(&table, scenario.TableOptions{}); err != nil {
			t.Error(err)
		}
		t.Errorf("the scenario did not go as it expects:\n%s", &table)
	}
	t.Logf("%d different requests traced in %s", len(traced.cells), traced.took)
	if len(traced.cells) < 200 {
		t.Errorf("only %d different requests were compared with their traces", len(traced.cells))
	}
	var problems []string
	clients, servers := 0, 0
	testlab.Eventually(t.Context(), 2*time.Second, func() bool { // the last FINs and their answers
		problems, clients, servers = points.problems()
		return len(problems) == 0
	})
	for _, p := range problems {
		t.Error(p)
	}
	t.Logf("%d connections compared at clients, %d at servers", clients, servers)
	if clients < 100 || servers < 50 {
		t.Errorf("only %d connections were compared at clients, and %d at servers: packets are not seen", clients, servers)
	}
	return report
}

// TestFourPointsSeeEarlyUnDNAT breaks the reply bypass, and wants the four points to show it.
func TestFourPointsSeeEarlyUnDNAT(t *testing.T) {
	t.Parallel()
	prepared, err := lab.Prepare(serviceMatrix)
	if err != nil {
		t.Fatal(err)
	}
	p := prepared[0]
	opts := labs.Options(t)
	opts.Nodes = p.Nodes
	opts.EditFlows = func(b *openflow.Bundle) { unDNATEarly(b) }
	l := testlab.Start(t, opts, p.Manifests...)
	points := lookEverywhere(t, l, p.Objects, "node-1", "node-2")
	for _, step := range p.Steps {
		if step.Name == "ClusterIP, endpoints on both nodes, client's edge, IPv4" {
			p.Steps = []scenario.Step{step}
		}
	}
	if report := scenario.Run(t.Context(), p.Scenario, points.dialing, scenario.Options{}); report.Passed() || len(p.Steps) != 1 {
		t.Errorf("%d steps, among which the broken one, went as if nothing were broken", len(p.Steps))
	}
	problems, _, _ := points.problems()
	for _, want := range []string{"saw a Service's address", "saw one direction of"} {
		if !strings.Contains(strings.Join(problems, "\n"), want) {
			t.Errorf("nothing %q was found; the problems are %q", want, problems)
		}
	}
}

// compareTable compares a table with the one in the page between its marks, or puts it there.
func compareTable(t *testing.T, name, table string) {
	t.Helper()
	page, err := os.ReadFile(matrixPage)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := fmt.Sprintf("<!-- begin %s -->\n", name), fmt.Sprintf("<!-- end %s -->\n", name)
	before, rest, found := strings.Cut(string(page), begin)
	old, after, found2 := strings.Cut(rest, end)
	if !found || !found2 {
		t.Fatalf("%s has no lines %q and %q", matrixPage, begin, end)
	}
	if *update {
		if err := os.WriteFile(matrixPage, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(old, table); diff != "" {
		t.Errorf("%s does not say what was found (run the test with -update; -page +found):\n%s", matrixPage, diff)
	}
}
