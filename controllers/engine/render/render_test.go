package render_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/engine/render"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Each testdata/*.in.yaml is an Engine. The DaemonSets that it becomes are in *.out.yaml.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, in := range inputs {
		t.Run(strings.TrimSuffix(filepath.Base(in), ".in.yaml"), func(t *testing.T) {
			got := rendered(t, read(t, in))
			out := strings.TrimSuffix(in, ".in.yaml") + ".out.yaml"
			if *update {
				if err := os.WriteFile(out, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(out)
			if err != nil {
				t.Fatalf("%v; write it with: go test ./controllers/engine/render -update", err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s differs (-want +got); if this is meant: go test ./controllers/engine/render -update\n%s", out, diff)
			}
		})
	}
}

func read(t *testing.T, path string) *v1alpha1.Engine {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	engine := &v1alpha1.Engine{}
	if err := yaml.UnmarshalStrict(text, engine); err != nil {
		t.Fatal(err)
	}
	return engine
}

func rendered(t *testing.T, engine *v1alpha1.Engine) []byte {
	t.Helper()
	node, openvswitch := render.DaemonSets(engine, images, "meerkat-system")
	var out bytes.Buffer
	for _, ds := range []any{render.Applied(node).Object, render.Applied(openvswitch).Object} {
		text, err := yaml.Marshal(ds)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("---\n")
		out.Write(text)
	}
	return out.Bytes()
}

var images = render.Images{
	Agent: "meerkat-dev/agent:v1.2.3", Engine: "meerkat-dev/engine:v1.2.3", Switch: "meerkat-dev/switch:v1.2.3",
}
