package scenario_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
)

func golden(t *testing.T, path, got string) {
	t.Helper()
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run the test with -update, and read what it wrote", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got\n%s", path, diff)
	}
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the golden files")
	flag.Parse()
	os.Exit(m.Run())
}

// TestParse: each testdata/*.in.yaml gives what stands in its *.out.txt, a scenario or all its faults.
func TestParse(t *testing.T) {
	files, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no test data", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		s, err := scenario.Parse(data, filepath.Base(file))
		if err != nil {
			got = err.Error() + "\n"
		} else {
			out, err := json.MarshalIndent(s, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = string(out) + "\n"
		}
		golden(t, strings.TrimSuffix(file, ".in.yaml")+".out.txt", got)
	}
}

func TestLoad(t *testing.T) {
	_, err := scenario.Load("testdata/whole.in.yaml")
	faults, ok := errors.AsType[scenario.Faults](err)
	if !ok || len(faults) != 6 || !strings.Contains(err.Error(), "whole.in.yaml: manifests[0]: the file cannot be read") ||
		!strings.Contains(err.Error(), "whole.in.yaml:15: steps[2].connection.requests[2].apply.file") ||
		!strings.Contains(err.Error(), "whole.in.yaml:28: steps[10].apply.file") ||
		!strings.Contains(err.Error(), "whole.in.yaml:43: steps[16].connection.requests[0].delete.file") {
		t.Errorf("got %v, want a fault for each missing file", err)
	}
	if _, err := scenario.Load("testdata/none.yaml"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestParseOddFiles(t *testing.T) {
	for in, want := range map[string]string{
		"":                 "it is empty",
		"# nothing":        "it is empty",
		"a: [":             "did not find",
		"- a":              "must be an object",
		"a: 1\n---\nb: 2":  "a second begins here",
		"kind: &a [*a]":    "must be one of Scenario",
		"steps: []":        "without a step nothing is shown",
		"---\n---\na: b\n": "must be an object",
	} {
		_, err := scenario.Parse([]byte(in), "x.yaml")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want it to say %q", in, err, want)
		}
	}
}

func TestIs(t *testing.T) {
	for in, want := range map[string]bool{
		"kind: Scenario": true, "kind: Pod": false, "a: [": false, "": false, "kind: Scenario\n---\nkind: Pod": true,
	} {
		if got := scenario.Is([]byte(in)); got != want {
			t.Errorf("%q: got %v", in, got)
		}
	}
}

// TestScenarios reads every scenario of the repository.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("../../../../test/scenarios/*/*scenario.yaml")
	if err != nil || len(files) < 12 {
		t.Fatalf("only %d scenarios are there (%v)", len(files), err)
	}
	for _, file := range files {
		s, err := scenario.Load(file)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, step := range s.Steps {
			if step.Name == "" {
				t.Errorf("%s:%d: the step has no name", file, step.Line)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, file := range []string{"testdata/whole.in.yaml", "testdata/broken.in.yaml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := scenario.Parse(data, "x.yaml")
		if (s == nil) == (err == nil) {
			t.Errorf("got %v and %v", s, err)
		}
		if faults, ok := errors.AsType[scenario.Faults](err); err != nil && (!ok || len(faults) == 0) {
			t.Errorf("got %T without faults", err)
		}
	})
}
