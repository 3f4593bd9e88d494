// Package charts_test compares the Helm chart with what kustomize installs.
package charts_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// Programs come from make test-chart, which builds them.
func programs(t *testing.T) (helm, kustomize string) {
	t.Helper()
	helm, kustomize = os.Getenv("HELM"), os.Getenv("KUSTOMIZE")
	if helm == "" || kustomize == "" {
		t.Skip("HELM and KUSTOMIZE do not say where the programs are: run make test-chart")
	}
	return helm, kustomize
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

// template renders the chart, and gives its objects by kind and name.
func template(t *testing.T, helm string, args ...string) map[string]any {
	t.Helper()
	all := append([]string{"template", "meerkat", "meerkat", "--namespace", "meerkat-system", "--include-crds", "--kube-version", "1.36"}, args...)
	return objects(t, output(t, helm, all...))
}

func objects(t *testing.T, text string) map[string]any {
	t.Helper()
	all := map[string]any{}
	for document := range strings.SplitSeq("\n"+text, "\n---") {
		object := map[string]any{}
		if err := yaml.Unmarshal([]byte(document+"\n"), &object); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if len(object) == 0 {
			continue
		}
		key := fmt.Sprintf("%v %v", object["kind"], object["metadata"].(map[string]any)["name"])
		if all[key] != nil {
			t.Errorf("there are two of %s", key)
		}
		all[key] = object
	}
	return all
}

// The chart with its own values installs what kustomize does, but for the namespace, which Helm makes, the Engine, and the hook.
func TestChartIsWhatKustomizeInstalls(t *testing.T) {
	helm, kustomize := programs(t)
	want := objects(t, output(t, "../hack/kustomize.sh", kustomize, "v0.1.0"))
	delete(want, "Namespace meerkat-system")
	got := template(t, helm)
	for _, hook := range []string{"Job", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"} {
		if got[hook+" meerkat-detach"] == nil {
			t.Errorf("the hook has no %s", hook)
		}
		delete(got, hook+" meerkat-detach")
	}
	if got["Engine default"] == nil {
		t.Error("there is no Engine")
	}
	delete(got, "Engine default")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the chart differs from config/ (-config +chart):\n%s", diff)
	}
}

// With cert-manager, the chart is what the component makes of config/.
func TestChartWithCertManager(t *testing.T) {
	helm, kustomize := programs(t)
	overlay, err := os.MkdirTemp("../bin", "overlay.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(overlay) })
	text := "resources: [../../config/default]\ncomponents: [../../config/components/certmanager]\n" +
		"images: [{name: meerkat-dev/manager, newTag: v0.1.0}]\n"
	if err := os.WriteFile(overlay+"/kustomization.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := objects(t, output(t, kustomize, "build", overlay))
	got := template(t, helm, "--set", "certManager.enabled=true")
	for key := range want {
		if strings.HasPrefix(key, "Deployment ") || strings.HasPrefix(key, "Namespace ") {
			continue
		}
		if diff := cmp.Diff(want[key], got[key]); diff != "" {
			t.Errorf("%s differs (-config +chart):\n%s", key, diff)
		}
	}
	if got["Secret meerkat-webhook-certificate"] != nil {
		t.Error("the Secret is the chart's, and cert-manager's too")
	}
	if text := fmt.Sprint(got["Deployment meerkat-manager"]); !strings.Contains(text, "--webhook-certificate-provided") {
		t.Errorf("the manager would sign certificates: %s", text)
	}
}

// With Prometheus, the chart has the monitors, alerts and dashboard of config/ besides.
func TestChartWithPrometheus(t *testing.T) {
	helm, kustomize := programs(t)
	want := objects(t, output(t, kustomize, "build", "../config/prometheus")+"---\n"+output(t, kustomize, "build", "../config/grafana"))
	got := template(t, helm, "--set", "prometheus.enabled=true")
	for key := range want {
		if diff := cmp.Diff(want[key], got[key]); diff != "" {
			t.Errorf("%s differs (-config +chart):\n%s", key, diff)
		}
	}
	if len(want) != 5 {
		t.Errorf("config/ has %d objects", len(want))
	}
	if got := template(t, helm, "--set", "prometheus.enabled=true,prometheus.dashboard=false"); got["ConfigMap meerkat-dashboard"] != nil {
		t.Error("there is a dashboard, which nobody wants")
	}
}

// Values reach what they are about, in another namespace too.
func TestValues(t *testing.T) {
	helm, _ := programs(t)
	got := template(t, helm, "--namespace", "other", "--values", "testdata/everything.yaml")
	text := fmt.Sprint(got)
	if strings.Contains(text, "meerkat-system") {
		t.Error("an object is tied to the namespace meerkat-system")
	}
	rendered, err := yaml.Marshal(map[string]any{
		"Deployment": got["Deployment meerkat-manager"], "Engine": got["Engine default"], "NetworkPolicy": got["NetworkPolicy meerkat-manager"],
		"ServiceMonitor": got["ServiceMonitor meerkat-manager"], "PodDisruptionBudget": got["PodDisruptionBudget meerkat-manager"],
		"Job": got["Job meerkat-detach"], "role": got["ClusterRole meerkat-l7policy-editor"],
	})
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/everything.out.yaml"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, rendered, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v; write it with: UPDATE=1 make test-chart", err)
	}
	if diff := cmp.Diff(string(want), string(rendered)); diff != "" {
		t.Errorf("%s differs (-want +got); if this is meant: UPDATE=1 make test-chart\n%s", golden, diff)
	}
}

// Values that are misspelt or wrong are refused, with a word that helps.
func TestWrongValuesAreRefused(t *testing.T) {
	helm, _ := programs(t)
	for set, want := range map[string]string{
		"manager.replica=3":                     "replica",
		"manager.replicas=0":                    "replicas",
		"images.pullPolicy=Sometimes":           "pullPolicy",
		"engine.detachTimeout=soon":             "detachTimeout",
		"manager.resources.limits.memory=1.5Gi": "whole number",
	} {
		out, err := exec.Command(helm, "template", "meerkat", "meerkat", "--kube-version", "1.36", "--set", set).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, and the message does not have %q:\n%s", set, err, want, out)
		}
	}
}

// TestLint is helm lint.
func TestLint(t *testing.T) {
	helm, _ := programs(t)
	output(t, helm, "lint", "--strict", "meerkat")
	output(t, helm, "lint", "--strict", "meerkat", "--values", "testdata/everything.yaml")
}
