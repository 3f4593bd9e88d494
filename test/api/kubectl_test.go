package api_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// TestKubectlExplain compares what `kubectl explain` prints with testdata. Read it as documentation before you rewrite it with -update.
func TestKubectlExplain(t *testing.T) {
	for name, args := range map[string][]string{
		"explain-http":     {"explain", "l7policy.spec.ingress.l7.http", "--recursive"},
		"explain-path":     {"explain", "l7policy.spec.ingress.l7.http.path"},
		"explain-l7policy": {"explain", "l7policy.spec"},
		"explain-status":   {"explain", "l7policy.status"},
		"explain-engine":   {"explain", "engine.spec"},
		"explain-node":     {"explain", "nodeinspection.status"},

		"explain-ruleset":           {"explain", "ruleset.spec"},
		"explain-ruleset-source":    {"explain", "ruleset.spec.sources"},
		"explain-ruleset-url":       {"explain", "clusterruleset.spec.sources.url"},
		"explain-ruleset-selector":  {"explain", "ruleset.spec.disable"},
		"explain-ruleset-rollout":   {"explain", "ruleset.spec.rollout", "--recursive"},
		"explain-ruleset-status":    {"explain", "ruleset.status"},
		"explain-rollout-status":    {"explain", "clusterruleset.status.rollout"},
		"explain-rulesetrevision":   {"explain", "rulesetrevision"},
		"explain-inspection":        {"explain", "trafficinspection.spec"},
		"explain-inspection-status": {"explain", "trafficinspection.status"},
		"explain-node-ruleset":      {"explain", "nodeinspection.status.ruleSets"},
		"explain-node-inspection":   {"explain", "nodeinspection.status.inspections"},
		"explain-flowexport":        {"explain", "flowexport.spec"},
		"explain-collector":         {"explain", "flowexport.spec.collectors"},
		"explain-flowexport-status": {"explain", "flowexport.status"},
		"explain-node-flowexport":   {"explain", "nodeinspection.status.flowExports"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := tryKubectl(args...)
			for range 50 { // the API server publishes its documentation a moment after it serves
				if err == nil {
					break
				}
				time.Sleep(200 * time.Millisecond)
				out, err = tryKubectl(args...)
			}
			if err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
			golden(t, name, out)
		})
	}
}

// age is a column of kubectl's with the space after it, which depends on its width.
var age = regexp.MustCompile(`(\b\d+s|<invalid>)( +|$)`)

// TestKubectlGet compares what `kubectl get` prints of each kind.
func TestKubectlGet(t *testing.T) {
	writeExamples(t)
	for name, args := range map[string][]string{
		"get-l7policies":      {"get", "l7p", "-A"},
		"get-l7policies-wide": {"get", "l7p", "-A", "-o", "wide"},
		"get-engines":         {"get", "engines", "-o", "wide"},
		"get-nodeinspections": {"get", "nins", "-o", "wide"},
		"get-addressslices":   {"get", "asl"},
		"get-rulesets":        {"get", "mrs,cmrs", "-A", "-o", "wide"},
		"get-revisions":       {"get", "mrr"},
		"get-inspections":     {"get", "tin", "-A", "-o", "wide"},
		"get-flowexports":     {"get", "fx", "-o", "wide"},
		"get-meerkat":         {"get", "meerkat", "-A"},
	} {
		t.Run(name, func(t *testing.T) {
			var lines []string
			for line := range strings.Lines(kubectl(t, args...)) {
				lines = append(lines, strings.TrimRight(age.ReplaceAllString(strings.TrimRight(line, "\n"), "7s   "), " "))
			}
			golden(t, name, strings.Join(lines, "\n")+"\n")
		})
	}
}

// writeExamples stores testdata/examples.yaml with its statuses.
func writeExamples(t *testing.T) {
	t.Helper()
	data, err := os.ReadFile("testdata/examples.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(data), "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), object); err != nil {
			t.Fatal(err)
		}
		status, has := object.Object["status"].(map[string]any)
		if err := cluster.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
		if object.GetKind() != "Namespace" {
			t.Cleanup(func() { _ = cluster.Client.Delete(context.Background(), object) })
		}
		if !has {
			continue
		}
		if conditions, ok := status["conditions"].([]any); ok {
			for _, c := range conditions {
				condition := c.(map[string]any)
				condition["lastTransitionTime"], condition["message"] = "2026-01-02T03:04:05Z", "…"
			}
		}
		switch object.GetKind() {
		case "NodeInspection":
			status["reported"] = metav1.Now().UTC().Format(time.RFC3339)
		case "L7Policy", "Engine", "RuleSet", "ClusterRuleSet", "TrafficInspection", "FlowExport":
			status["observedGeneration"] = object.GetGeneration()
		}
		object.Object["status"] = status
		if err := cluster.Client.Status().Update(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

// TestApplyingTwiceChangesNothing applies samples and an Engine twice, in both ways, with a status written in between.
func TestApplyingTwiceChangesNothing(t *testing.T) {
	for name, how := range map[string][]string{"client-side": {"apply"}, "server-side": {"apply", "--server-side"}} {
		t.Run(name, func(t *testing.T) {
			_, _ = tryKubectl("create", "namespace", "shop")
			files := []string{"../../config/samples", "testdata/twice.yaml"}
			for i, path := range files {
				if info, err := os.Stat(path); err == nil && info.IsDir() {
					files[i] = "-k=" + path
				} else {
					files[i] = "-f=" + path
				}
			}
			for _, file := range files {
				kubectl(t, append(how, file)...)
			}
			t.Cleanup(func() {
				for _, file := range files {
					kubectl(t, "delete", file)
				}
			})
			observe(t)
			before := versions(t)
			for _, file := range files {
				if out := kubectl(t, append(how, file)...); strings.Contains(out, "configured") {
					t.Errorf("applying again says\n%s", out)
				}
				if out, err := tryKubectl(append([]string{"diff"}, append(how[1:], file)...)...); err != nil || strings.TrimSpace(out) != "" {
					t.Errorf("kubectl diff %s: %v\n%s", file, err, out)
				}
			}
			if diff := cmp.Diff(before, versions(t)); diff != "" {
				t.Errorf("applying again changed objects (-before +after):\n%s", diff)
			}
		})
	}
}

// observe writes statuses, as the manager does as soon as there is an object. (Until then, the first server-side apply stores the
// default of the status, which changes the resourceVersion once.)
func observe(t *testing.T) {
	t.Helper()
	for _, kind := range []string{"L7Policy", "Engine", "RuleSet", "ClusterRuleSet", "TrafficInspection", "FlowExport"} {
		all := &unstructured.UnstructuredList{}
		all.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind + "List"))
		if err := cluster.Client.List(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		if len(all.Items) == 0 {
			t.Errorf("there is no %s", kind)
		}
		for i := range all.Items {
			one := &all.Items[i]
			if err := unstructured.SetNestedField(one.Object, one.GetGeneration(), "status", "observedGeneration"); err != nil {
				t.Fatal(err)
			}
			if err := cluster.Client.Status().Update(t.Context(), one); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// versions are every object's resourceVersion and generation.
func versions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for line := range strings.Lines(kubectl(t, "get", "l7policies,engines,rulesets,clusterrulesets,trafficinspections,flowexports", "-A",
		"-o", `jsonpath={range .items[*]}{.kind}/{.metadata.name}{" "}{.metadata.resourceVersion}/{.metadata.generation}{"\n"}{end}`)) {
		if name, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			all[name] = version
		}
	}
	if len(all) < 4 {
		t.Fatalf("found %v, want the samples and an Engine", all)
	}
	return all
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tryKubectl(args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func tryKubectl(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, cluster.Kubectl, append([]string{"--kubeconfig", cluster.Kubeconfig}, args...)...)
	c.Env = append(os.Environ(), "KUBECACHEDIR="+filepath.Join(filepath.Dir(cluster.Kubeconfig), "cache"))
	out, err := c.CombinedOutput()
	return string(out), err
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".out.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("differs from %s (-want +got); rewrite it with -update if that is meant:\n%s", file, diff)
	}
}
