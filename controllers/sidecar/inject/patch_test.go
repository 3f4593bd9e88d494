package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
)

var (
	update  = flag.Bool("update", false, "rewrite the golden files")
	cluster *testcluster.Cluster
)

func TestMain(m *testing.M) {
	os.Exit(testcluster.Main(m, testcluster.Options{}, func(c *testcluster.Cluster) { cluster = c }))
}

// objects is an input file.
type objects struct {
	namespace   corev1.Namespace
	inspections []v1alpha1.TrafficInspection
	pod         corev1.Pod
	raw         []byte // the Pod
}

func read(t *testing.T, path string) objects {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var o objects
	documents := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		var raw json.RawMessage
		if err := documents.Decode(&raw); errors.Is(err, io.EOF) {
			return o
		} else if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		var kind metav1.TypeMeta
		into := map[string]any{"Namespace": &o.namespace, "Pod": &o.pod, "TrafficInspection": &v1alpha1.TrafficInspection{}}
		if err := errors.Join(json.Unmarshal(raw, &kind), json.Unmarshal(raw, into[kind.Kind])); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		switch i := into[kind.Kind].(type) {
		case *v1alpha1.TrafficInspection:
			o.inspections = append(o.inspections, *i)
		case *corev1.Pod:
			o.raw = raw
		}
	}
}

func (o objects) options() Options {
	return Options{Image: "registry.example/engine:v1", Level: Level(o.namespace.Labels[LabelEnforce])}
}

// patched gives the Pod as the API server makes it.
func patched(t *testing.T, o objects) ([]byte, []string) {
	t.Helper()
	ops, warnings := Patch(&o.pod, o.inspections, o.options())
	if len(ops) == 0 {
		return o.raw, warnings
	}
	text, err := json.Marshal(ops)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	out, err := patch.Apply(o.raw)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out, warnings
}

// What becomes of Pods, and that an API server takes it, pod security included.
func TestPatch(t *testing.T) {
	files, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".in.yaml"), func(t *testing.T) {
			o := read(t, file)
			raw, warnings := patched(t, o)
			got, err := yaml.JSONToYAML(raw)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range warnings {
				got = append(got, "# Warning: "+w+"\n"...)
			}
			golden := strings.TrimSuffix(file, ".in.yaml") + ".out.yaml"
			if *update {
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			var again corev1.Pod
			if err := json.Unmarshal(raw, &again); err != nil {
				t.Fatal(err)
			}
			if ops, _ := Patch(&again, o.inspections, o.options()); len(ops) > 0 {
				t.Errorf("asked again, it changes the Pod again: %+v", ops)
			}
			again.Namespace = cluster.Namespace(t, "inject", o.namespace.Labels)
			again.Spec.ServiceAccountName = "default"
			if err := cluster.Client.Create(t.Context(), &again, client.DryRunAll, &client.CreateOptions{FieldValidation: "Strict"}); err != nil {
				t.Errorf("the API server does not take it: %v", err)
			}
		})
	}
}

// What is right at one level is refused at the next: the levels are told apart for a reason.
func TestLevelsMatter(t *testing.T) {
	o := read(t, "testdata/plain.in.yaml")
	for _, c := range []struct {
		enforced, made Level
		refused        bool
	}{{Baseline, Privileged, true}, {Baseline, Baseline, false}, {Restricted, Baseline, true}, {Privileged, Privileged, false}} {
		o.namespace.Labels = map[string]string{LabelEnforce: string(c.made)}
		raw, _ := patched(t, o)
		var pod corev1.Pod
		if err := json.Unmarshal(raw, &pod); err != nil {
			t.Fatal(err)
		}
		pod.Namespace = cluster.Namespace(t, "level", map[string]string{LabelEnforce: string(c.enforced)})
		pod.Spec.ServiceAccountName = "default"
		err := cluster.Client.Create(t.Context(), &pod, client.DryRunAll)
		if (err != nil) != c.refused {
			t.Errorf("made for %s, in a namespace that enforces %s: %v", c.made, c.enforced, err)
		}
	}
}

// A Pod that no inspection selects is left alone, also in what this program does not know of it.
func TestUnknownFieldsStay(t *testing.T) {
	o := read(t, "testdata/two.in.yaml")
	o.raw = bytes.Replace(o.raw, []byte(`"spec":{`), []byte(`"spec":{"fieldOfTheFuture":{"a":1},`), 1)
	raw, _ := patched(t, o)
	if !bytes.Contains(raw, []byte(`"fieldOfTheFuture":{"a":1}`)) {
		t.Errorf("it is gone: %s", raw)
	}
	ops, _ := Patch(&o.pod, o.inspections, o.options())
	if slices.ContainsFunc(ops, func(op Operation) bool { return op.Operation != "add" }) {
		t.Errorf("something is taken away or replaced: %+v", ops)
	}
}
