package manifests

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the golden files testdata/*/*.out.txt")

// TestBad loads each of testdata/bad and compares the faults with the golden file beside it.
func TestBad(t *testing.T) {
	forEach(t, "testdata/bad/*.yaml", func(t *testing.T, file string) {
		objects, err := Load(file)
		var faults Faults
		if !errors.As(err, &faults) {
			t.Fatalf("got the error %v, want Faults", err)
		}
		if objects != nil {
			t.Error("got objects beside the faults")
		}
		golden(t, file, faults.Error()+"\n")
	})
}

// TestFaultsAreInOneOrder reads an object in which several of the schema's CEL rules fail again and again.
func TestFaultsAreInOneOrder(t *testing.T) {
	// On one line, as an API server sends it: faults in a file are told by their lines.
	const object = `{"apiVersion": "inspection.meerkat.dev/v1alpha1", "kind": "ClusterRuleSet", "metadata": {"name": "open"}, "spec": {"rollout": {"canary": 0}, "sources": [{"name": "feed", "url": {"address": "https://rules.example/a.rules", "refreshInterval": "1m"}}]}}`
	var first string
	for range 50 {
		_, err := Read("object", strings.NewReader(object))
		if err == nil {
			t.Fatal("got no faults")
		}
		if first == "" {
			first = err.Error()
		}
		if err.Error() != first {
			t.Fatalf("it was\n%s\nand is\n%s", first, err)
		}
	}
}

// TestGood loads each of testdata/good and compares the objects, defaults applied, with the golden file beside it.
func TestGood(t *testing.T) {
	forEach(t, "testdata/good/*.*", func(t *testing.T, file string) {
		if strings.HasSuffix(file, ".out.txt") {
			t.Skip("a golden file")
		}
		objects, err := Load(file)
		if err != nil {
			t.Fatalf("got faults:\n%v", err)
		}
		golden(t, file, dump(t, objects))
	})
}

// TestSamples loads what config/samples offers to be applied.
func TestSamples(t *testing.T) {
	forEach(t, "../../config/samples/l7policy_*.yaml", func(t *testing.T, file string) {
		objects, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(objects.L7Policies) != 1 {
			t.Errorf("got %d policies, want 1", len(objects.L7Policies))
		}
	})
}

func dump(t *testing.T, objects *Objects) string {
	t.Helper()
	data, err := yaml.Marshal(objects)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func forEach(t *testing.T, pattern string, test func(*testing.T, string)) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files match %s (%v)", pattern, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { test(t, file) })
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	name := strings.TrimSuffix(file, filepath.Ext(file)) + ".out.txt"
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v; run the test with -update to write it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("differs from %s (-want +got); if the change is meant, run the test with -update:\n%s", name, diff)
	}
}
