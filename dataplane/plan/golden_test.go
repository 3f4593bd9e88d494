package plan_test

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Each testdata/*.in.yaml is a snapshot: Kubernetes objects, and a first document of kind Snapshot with the node's name. Its
// plan and findings are in *.out.yaml.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, in := range inputs {
		t.Run(strings.TrimSuffix(filepath.Base(in), ".in.yaml"), func(t *testing.T) {
			p, f := plan.Compile(*readSnapshot(t, in))
			got := render(t, p, f)
			out := strings.TrimSuffix(in, ".in.yaml") + ".out.yaml"
			if *update {
				if err := os.WriteFile(out, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(out)
			if err != nil {
				t.Fatalf("%v; write it with: go test ./dataplane/plan -update", err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s differs (-want +got); if this is meant: go test ./dataplane/plan -update\n%s", out, diff)
			}
		})
	}
}

func render(t *testing.T, p *plan.NodePlan, f plan.Findings) []byte {
	t.Helper()
	text, err := sigsyaml.Marshal(map[string]any{"plan": p, "findings": f})
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`lastTransitionTime: null\n *`).ReplaceAll(text, nil)
}

func readSnapshot(t *testing.T, path string) *plan.Snapshot {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &plan.Snapshot{}
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return s
		}
		if err == nil {
			err = addObject(s, document)
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
}

func addObject(s *plan.Snapshot, document []byte) error {
	var kind struct{ Kind string }
	if err := sigsyaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	switch kind.Kind {
	case "Snapshot":
		return sigsyaml.Unmarshal(document, s)
	case "Namespace":
		return addTo(&s.Namespaces, document)
	case "Node":
		return addTo(&s.Nodes, document)
	case "Pod":
		return addTo(&s.Pods, document)
	case "Service":
		return addTo(&s.Services, document)
	case "EndpointSlice":
		return addTo(&s.EndpointSlices, document)
	case "L7Policy":
		return addTo(&s.L7Policies, document)
	case "TrafficInspection":
		return addTo(&s.TrafficInspections, document)
	}
	return fmt.Errorf("kind %q is not part of a snapshot", kind.Kind)
}

func addTo[T any](list *[]T, document []byte) error {
	var object T
	if err := sigsyaml.UnmarshalStrict(document, &object); err != nil {
		return err
	}
	*list = append(*list, object)
	return nil
}
