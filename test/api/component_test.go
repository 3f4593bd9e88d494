package api_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCertManagerComponent builds the installation with cert-manager's certificate: the manager then neither signs nor writes one.
func TestCertManagerComponent(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	up, err := filepath.Rel(directory, root)
	if err != nil {
		t.Fatal(err)
	}
	text := "resources: [" + up + "/config/default]\ncomponents: [" + up + "/config/components/certmanager]\n"
	if err := os.WriteFile(filepath.Join(directory, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := kubectl(t, "kustomize", directory)
	for _, want := range []string{"kind: Certificate\n", "- --webhook-certificate-provided", "secretName: meerkat-webhook-certificate"} {
		if strings.Count(out, want) != 1 {
			t.Errorf("%q should be there once", want)
		}
	}
	if n := strings.Count(out, "cert-manager.io/inject-ca-from: meerkat-system/meerkat-webhook"); n != 3 {
		t.Errorf("%d configurations get their CA from cert-manager, want 3: two that validate and one that changes Pods", n)
	}
	for document := range strings.SplitSeq(out, "\n---\n") {
		if strings.Contains(document, "kind: Secret\n") || strings.Contains(document, "kind: ClusterRole\n") && strings.Contains(document, "name: meerkat-webhook\n") {
			t.Errorf("should not be there:\n%s", document)
		}
	}
}
