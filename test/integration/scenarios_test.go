package integration

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
)

// TestScenarios plays every scenario file.
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../scenarios/*/scenario.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenario files in test/scenarios", err)
	}
	t.Cleanup(func() {
		t.Logf("traces: %d different requests, compared with %d that were sent: %d disagreements", tracedCells.Load(), tracedRequests.Load(), disagreements.Load())
	})
	for _, file := range files {
		if file == serviceMatrix {
			continue // TestServiceMatrix plays it
		}
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			t.Parallel() // each lab has a switch, an engine and namespaces of its own
			prepared, err := lab.Prepare(file)
			if err != nil {
				t.Fatal(err)
			}
			opts := labs.Options(t)
			opts.Progress = nil
			name := filepath.Base(filepath.Dir(file))
			traced := newTraces(t)
			if untraced[name] == "" {
				opts.OnTried = traced.tried
			}
			report, err := lab.Play(t.Context(), prepared[0], opts, nil)
			if err != nil {
				t.Fatal(err)
			}
			if untraced[name] == "" {
				t.Logf("%d different requests traced in %s", len(traced.cells), traced.took)
				tracedCells.Add(int64(len(traced.cells)))
			}
			if m := scenario.NewMatrix(report); m.String() != "" {
				t.Logf("\n%s", m)
				if passed, all := m.Count(); passed != all {
					t.Errorf("%d of %d cells of the matrix are as expected", passed, all)
				}
			}
			if !report.Passed() {
				var table bytes.Buffer
				if err := report.WriteTable(&table, scenario.TableOptions{}); err != nil {
					t.Error(err)
				}
				t.Errorf("the scenario did not go as it expects:\n%s", &table)
			}
		})
	}
}
