package webhook_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/controllers/webhook"
)

// TestWhatKubectlPrints applies each file with kubectl, and compares all that it prints with the file's golden file. Rewrite those
// with -update.
func TestWhatKubectlPrints(t *testing.T) {
	if out, err := kubectl("apply", "-f", "objects.yaml"); err != nil {
		t.Fatal(out)
	}
	hasAddress(t, "shop", "web-0")
	for _, test := range []struct {
		file string
		how  []string
	}{
		{"faults", []string{"apply"}},
		{"faults.server-side", []string{"apply", "--server-side"}},
		{"faults.create", []string{"create"}},
		{"faults.dry-run", []string{"apply", "--dry-run=server"}},
		{"schema", []string{"apply"}},
		{"both", []string{"apply"}},
		{"two", []string{"apply"}},
		{"warnings", []string{"apply"}},
		{"faults.update", []string{"apply"}}, // storefront exists by now
		{"ruleset", []string{"apply"}},
		{"clusterruleset", []string{"apply"}},
		{"inspection", []string{"apply"}},
		{"inspection-copy", []string{"apply"}},
		{"inspection-warnings", []string{"apply"}},
	} {
		t.Run(test.file, func(t *testing.T) { compare(t, test.file, test.how) })
	}
	// What is told when nobody answers early: first what the schema refuses, and then, by the validating webhook, the rest.
	asking := earlyRules(t)
	askEarly(t, nil)
	defer askEarly(t, asking)
	for _, file := range []string{"both.late", "regex.late", "budget.late", "schema.late", "ruleset.late", "clusterruleset.late", "inspection.late"} {
		t.Run(file, func(t *testing.T) { compare(t, file, []string{"apply"}) })
	}
}

// TestSamplesAreAccepted applies the samples before anything is there that they refer to.
func TestSamplesAreAccepted(t *testing.T) {
	if out, err := kubectl("apply", "-f", "objects.yaml"); err != nil {
		t.Fatal(out)
	}
	out, err := kubectl("apply", "--dry-run=server", "-k", "../../config/samples")
	if err != nil || strings.Count(out, "l7policy.inspection.meerkat.dev/") < 3 {
		t.Errorf("%v\n%s", err, out)
	}
	t.Log(out)
}

func compare(t *testing.T, file string, how []string) {
	name, _, _ := strings.Cut(file, ".")
	how = append(how, "-f", name+".yaml")
	got, _ := kubectl(how...)
	got = "$ kubectl " + strings.Join(how, " ") + "\n" + sorted(got)
	golden := filepath.Join("testdata", file+".out.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("kubectl prints something else (-want +got); rewrite the file with -update if that is meant:\n%s", diff)
	}
}

// sorted puts the faults of the schema into an order: the API server tells them in any.
func sorted(printed string) string {
	if !strings.Contains(printed, "in body should") && !strings.Contains(printed, "Invalid value") {
		return printed
	}
	lines := strings.Split(strings.TrimSuffix(printed, "\n"), "\n")
	slices.Sort(lines[1:])
	return strings.Join(lines, "\n") + "\n"
}

// hasAddress gives a Pod an address, as its node would, and waits until the webhook knows.
func hasAddress(t *testing.T, namespace, name string) {
	t.Helper()
	pod := read(t, client.ObjectKey{Namespace: namespace, Name: name}, &corev1.Pod{})
	pod.Status.Phase, pod.Status.PodIP, pod.Status.PodIPs = corev1.PodRunning, "10.0.0.1", []corev1.PodIP{{IP: "10.0.0.1"}}
	if err := cluster.Client.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the webhook knows the Pod's address", func() string {
		var known corev1.Pod
		if err := replicas[0].manager.GetCache().Get(t.Context(), client.ObjectKeyFromObject(pod), &known); err != nil {
			return err.Error()
		}
		if known.Status.PodIP == "" {
			return "it has none"
		}
		return ""
	})
}

// askEarly has the API server ask early about what the rules say.
func askEarly(t *testing.T, rules []admissionregistrationv1.RuleWithOperations) {
	t.Helper()
	configuration := read(t, client.ObjectKey{Name: webhook.EarlyName}, &admissionregistrationv1.MutatingWebhookConfiguration{})
	configuration.Webhooks[0].Rules = rules
	if err := cluster.Client.Update(context.Background(), configuration); err != nil {
		t.Fatal(err)
	}
	settled(t, func(err error) bool { return err != nil && strings.Contains(err.Error(), "early.") == (rules != nil) })
}
