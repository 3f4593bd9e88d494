// Package argocd tests what Argo CD and kstatus say of Meerkat's objects, on statuses that a real API server has stored.
package argocd_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/config/argocd"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
)

const group = "inspection.meerkat.dev"

var (
	update = flag.Bool("update", false, "rewrite the tests of scripts and argocd-cm.yaml")

	cluster *testcluster.Cluster
)

func TestMain(m *testing.M) {
	os.Exit(testcluster.Main(m, testcluster.Options{}, func(c *testcluster.Cluster) { cluster = c }))
}

// state is one of testdata/states.yaml.
type state struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Fields are what the object has besides metadata, spec and status.
	Fields map[string]any `json:"fields"`
	// Status is what is written; nil for nothing yet.
	Status map[string]any `json:"status"`
	// Observed says which generation the status is about: "current", "before" or, where the kind has no such field, nothing.
	Observed string `json:"observed"`
	Deleting bool   `json:"deleting"`
	// Health is what Argo CD is to say, and KStatus what kstatus is.
	Health  string `json:"health"`
	KStatus string `json:"kstatus"`
}

// TestStates has the API server store each state, reads it back, and asks kstatus and the kind's script.
func TestStates(t *testing.T) {
	tests := map[string][]scriptTest{}
	for _, s := range states(t, "testdata/states.yaml") {
		t.Run(s.Kind+" "+s.Name, func(t *testing.T) {
			object := stored(t, s)
			result, err := status.Compute(object)
			if err != nil {
				t.Fatal(err)
			}
			if result.Status.String() != s.KStatus {
				t.Errorf("kstatus says %s (%s), want %s", result.Status, result.Message, s.KStatus)
			}
			got, err := argocd.HealthOf(t.Context(), s.Kind, object.Object)
			must(t, err)
			if got.Status != s.Health || got.Message == "" {
				t.Errorf("Argo CD says %s (%q), want %s and a message", got.Status, got.Message, s.Health)
			}
			input := filepath.Join("testdata", s.Name+".yaml")
			golden(t, filepath.Join(filepath.Dir(argocd.ScriptPath(s.Kind)), input), plain(t, object))
			tests[s.Kind] = append(tests[s.Kind], scriptTest{got, input})
		})
	}
	for kind, list := range tests {
		data, err := yaml.Marshal(map[string]any{"tests": list})
		if err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join(filepath.Dir(argocd.ScriptPath(kind)), "health_test.yaml"), data)
	}
}

// TestEveryState does the same with each status that the controllers can write.
func TestEveryState(t *testing.T) {
	for _, file := range []string{"../../controllers/l7policy/testdata/states.yaml", "../../controllers/engine/testdata/states.yaml"} {
		all := states(t, file)
		if len(all) < 5 {
			t.Errorf("%s has %d states", file, len(all))
		}
		for _, s := range all {
			t.Run(s.Kind+" "+s.Name, func(t *testing.T) {
				object := stored(t, s)
				result, err := status.Compute(object)
				must(t, err)
				got, err := argocd.HealthOf(t.Context(), s.Kind, object.Object)
				must(t, err)
				if result.Status.String() != s.KStatus || got.Status != s.Health {
					t.Errorf("kstatus says %s, and Argo CD %s; want %s and %s", result.Status, got.Status, s.KStatus, s.Health)
				}
			})
		}
	}
}

func states(t *testing.T, file string) []state {
	t.Helper()
	data, err := os.ReadFile(file)
	must(t, err)
	var all []state
	must(t, yaml.UnmarshalStrict(data, &all))
	return all
}

// scriptTest is a test in Argo CD's form.
type scriptTest struct {
	HealthStatus argocd.Health `json:"healthStatus"`
	InputPath    string        `json:"inputPath"`
}

// stored makes an object in that state, and returns it as the API server does.
func stored(t *testing.T, s state) *unstructured.Unstructured {
	t.Helper()
	ctx := context.Background() // also for the cleanup, when the test's own has ended
	object := &unstructured.Unstructured{Object: map[string]any{}}
	maps.Copy(object.Object, s.Fields)
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(s.Kind))
	object.SetName(s.Name)
	switch s.Kind {
	case "L7Policy":
		object.SetNamespace("default")
		object.Object["spec"] = map[string]any{
			"podSelector": map[string]any{}, "ingress": []any{map[string]any{"ports": []any{map[string]any{"port": "http"}}}},
		}
	case "RuleSet", "ClusterRuleSet":
		object.Object["spec"] = map[string]any{"sources": []any{map[string]any{"name": "local", "inline": "# none"}}}
	case "TrafficInspection":
		object.Object["spec"] = map[string]any{"podSelector": map[string]any{}, "ruleSets": []any{map[string]any{"name": "local"}}}
	case "FlowExport":
		object.Object["spec"] = map[string]any{"collectors": []any{map[string]any{"name": "archive", "address": "flows.example:4740"}}}
	case "Engine":
		object.SetName(v1alpha1.EngineName)
	}
	if slices.Contains([]string{"RuleSet", "TrafficInspection"}, s.Kind) {
		object.SetNamespace("default")
	}
	if s.Deleting {
		object.SetFinalizers([]string{group + "/test"})
	}
	must(t, cluster.Client.Create(ctx, object))
	t.Cleanup(func() {
		object.SetFinalizers(nil)
		object.SetResourceVersion("")
		if s.Deleting {
			must(t, cluster.Client.Update(ctx, read(t, object, func(o *unstructured.Unstructured) { o.SetFinalizers(nil) })))
			return
		}
		must(t, cluster.Client.Delete(ctx, object))
	})
	if s.Status != nil {
		written := (&unstructured.Unstructured{Object: map[string]any{"status": s.Status}}).DeepCopy().Object["status"].(map[string]any)
		for _, c := range written["conditions"].([]any) {
			c.(map[string]any)["lastTransitionTime"] = "2026-01-02T03:04:05Z"
			if s.Observed != "" {
				c.(map[string]any)["observedGeneration"] = object.GetGeneration()
			}
		}
		if s.Observed != "" {
			written["observedGeneration"] = object.GetGeneration()
		}
		object.Object["status"] = written
		must(t, cluster.Client.Status().Update(ctx, object))
	}
	if s.Observed == "before" {
		must(t, unstructured.SetNestedField(object.Object, changedSpec(s.Kind), "spec"))
		must(t, cluster.Client.Update(ctx, object))
	}
	if s.Deleting {
		must(t, cluster.Client.Delete(ctx, object))
	}
	return read(t, object, nil)
}

// changedSpec is another one than stored gives.
func changedSpec(kind string) map[string]any {
	switch kind {
	case "Engine":
		return map[string]any{"mtu": int64(1400)}
	case "RuleSet", "ClusterRuleSet":
		return map[string]any{"sources": []any{map[string]any{"name": "other", "inline": "# none"}}}
	case "TrafficInspection":
		return map[string]any{"podSelector": map[string]any{}, "ruleSets": []any{map[string]any{"name": "other"}}}
	case "FlowExport":
		return map[string]any{"collectors": []any{map[string]any{"name": "other", "address": "flows.example:4740"}}}
	default:
		return map[string]any{"podSelector": map[string]any{}, "egress": []any{map[string]any{}}}
	}
}

// read gets an object as it is stored.
func read(t *testing.T, object *unstructured.Unstructured, change func(*unstructured.Unstructured)) *unstructured.Unstructured {
	t.Helper()
	fresh := &unstructured.Unstructured{}
	fresh.SetGroupVersionKind(object.GroupVersionKind())
	must(t, cluster.Client.Get(context.Background(), client.ObjectKeyFromObject(object), fresh))
	if change != nil {
		change(fresh)
	}
	return fresh
}

// plain is an object as YAML, without what differs from one time to the next.
func plain(t *testing.T, object *unstructured.Unstructured) []byte {
	t.Helper()
	object = object.DeepCopy()
	metadata := object.Object["metadata"].(map[string]any)
	for _, name := range []string{"uid", "resourceVersion", "managedFields", "creationTimestamp"} {
		delete(metadata, name)
	}
	if metadata["deletionTimestamp"] != nil {
		metadata["deletionTimestamp"] = "2026-01-02T03:04:06Z"
	}
	data, err := yaml.Marshal(object.Object)
	must(t, err)
	return data
}

// TestScriptsAsArgoCDDoes runs the scripts' own tests, which are in the layout of Argo CD's resource_customizations.
func TestScriptsAsArgoCDDoes(t *testing.T) {
	for _, kind := range kinds(t) {
		directory := filepath.Dir(argocd.ScriptPath(kind))
		data, err := os.ReadFile(filepath.Join(directory, "health_test.yaml"))
		must(t, err)
		var file struct {
			Tests []scriptTest `json:"tests"`
		}
		must(t, yaml.UnmarshalStrict(data, &file))
		if len(file.Tests) == 0 {
			t.Errorf("%s has no test", kind)
		}
		for _, test := range file.Tests {
			data, err := os.ReadFile(filepath.Join(directory, test.InputPath))
			must(t, err)
			object := &unstructured.Unstructured{}
			must(t, yaml.Unmarshal(data, object))
			got, err := argocd.HealthOf(t.Context(), kind, object.Object)
			must(t, err)
			if diff := cmp.Diff(test.HealthStatus, got); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", kind, test.InputPath, diff)
			}
		}
	}
}

// TestConfigMapHasTheScripts keeps argocd-cm.yaml the same as the scripts.
func TestConfigMapHasTheScripts(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("# Teaches Argo CD the health of Meerkat's kinds: to be merged into its own ConfigMap, for example by\n" +
		"#   kubectl -n argocd patch configmap argocd-cm --patch-file config/argocd/argocd-cm.yaml\n" +
		"# It is made from resource_customizations by: go test ./config/argocd -update\n" +
		"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: argocd-cm\n  namespace: argocd\n  labels:\n    app.kubernetes.io/part-of: argocd\ndata:\n")
	for _, kind := range kinds(t) {
		script, err := os.ReadFile(argocd.ScriptPath(kind))
		must(t, err)
		fmt.Fprintf(&b, "  resource.customizations.health.%s_%s: |\n", group, kind)
		for line := range strings.Lines(string(script)) {
			b.WriteString("    " + line)
		}
	}
	golden(t, "argocd-cm.yaml", b.Bytes())

	var configMap struct {
		Data map[string]string `json:"data"`
	}
	must(t, yaml.Unmarshal(b.Bytes(), &configMap))
	script, err := os.ReadFile(argocd.ScriptPath("L7Policy"))
	must(t, err)
	if configMap.Data["resource.customizations.health."+group+"_L7Policy"] != string(script) {
		t.Error("the script of L7Policy does not come out of the YAML as it went in")
	}
}

// kinds are all of the API's, and each has a script.
func kinds(t *testing.T) []string {
	t.Helper()
	var names []string
	for name := range cluster.Scheme.KnownTypes(v1alpha1.GroupVersion) {
		if cluster.Scheme.Recognizes(v1alpha1.GroupVersion.WithKind(name + "List")) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) < 4 {
		t.Fatalf("the API's kinds are %v", names)
	}
	return names
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		must(t, os.WriteFile(path, got, 0o600))
		return
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not current (-want +got); rewrite it with -update if that is meant:\n%s", path, diff)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestApplicationsAreInOrder reads the examples: what is installed must be there, and come before what needs it.
func TestApplicationsAreInOrder(t *testing.T) {
	data, err := os.ReadFile("applications.yaml")
	must(t, err)
	var waves []string
	for document := range strings.SplitSeq(string(data), "\n---\n") {
		application := &unstructured.Unstructured{}
		must(t, yaml.Unmarshal([]byte(document), application))
		waves = append(waves, application.GetName()+" "+application.GetAnnotations()["argocd.argoproj.io/sync-wave"])
		if url, _, _ := unstructured.NestedString(application.Object, "spec", "source", "repoURL"); strings.HasSuffix(url, "/meerkat") {
			path, _, _ := unstructured.NestedString(application.Object, "spec", "source", "path")
			if _, err := os.Stat(filepath.Join("../..", path, "kustomization.yaml")); err != nil {
				t.Error(err)
			}
		}
	}
	if want := []string{"meerkat -20", "meerkat-engine -10", "shop-policies 10"}; !slices.Equal(waves, want) {
		t.Errorf("the waves are %v, want %v", waves, want)
	}
}
