package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/test/e2e/cluster"
)

// What is installed.
const (
	kustomization = "../../config/default"
	engine        = "../../config/samples/engine.yaml"
)

// deploy applies the kustomization, and waits until every node reports that it is ready.
func (w *world) deploy(t *testing.T) {
	t.Helper()
	w.Kubectl(t, "apply", "--server-side", "-k", kustomization)
	w.Kubectl(t, "rollout", "status", "--namespace=meerkat-system", "--timeout=120s", "deployment/meerkat-manager")
	w.Kubectl(t, "apply", "-f", engine)
	w.Kubectl(t, "wait", "--for=condition=Ready", "--timeout=120s", "engine/default")
	for _, node := range w.Nodes(t) {
		w.Kubectl(t, "wait", "--for=condition=Ready", "--timeout=60s", "nodeinspection/"+node)
	}
	t.Log(w.Kubectl(t, "get", "pods", "--namespace=meerkat-system", "-o", "wide"))
}

// install deploys Meerkat, and sees that this alone changes nothing.
func install(t *testing.T, w *world) {
	w.deploy(t)
	// No policy: nothing is touched.
	for _, client := range []string{nearClient, farClient} {
		for name, address := range w.addresses(t) {
			w.expect(t, client, name, address, yes("GET /public/installed"), yes("DELETE /installed"))
		}
	}
	w.asFound(t)
}

// asFound waits until every standing Pod has the interface, addresses and routes that it had before Meerkat.
func (w *world) asFound(t *testing.T) {
	t.Helper()
	for _, pod := range standing {
		cluster.Eventually(t, 30*time.Second, pod+" is as it was found", func() error {
			state, err := w.PodNetwork(t.Context(), pod)
			return errors.Join(err, difference(w.pods[pod], state))
		})
	}
}

// uninstall deletes the Engine and then the rest, and looks for what is left.
func uninstall(t *testing.T, w *world) {
	if _, err := w.Try(t.Context(), storefront, "apply", "-f", "-"); err != nil { // Pods are behind the bridge when Meerkat goes
		t.Fatal(err)
	}
	for _, manifest := range []string{probesRules, inspections("Detect"), inspections("Prevent")} { // and engines of inspections run
		if _, err := w.Try(t.Context(), manifest, "apply", "-f", "-"); err != nil {
			t.Fatal(err)
		}
	}
	w.ready(t, "storefront")
	w.inspected(t, "detect-servers", "prevent-servers", "prevent-clients")
	w.Kubectl(t, "delete", "engine", "default", "--timeout=120s")
	w.asFound(t)
	w.Kubectl(t, "delete", "-k", kustomization, "--ignore-not-found", "--timeout=120s")
	for _, client := range []string{nearClient, farClient} {
		for name, address := range w.addresses(t) {
			w.expect(t, client, name, address, yes("GET /public/after"), yes("DELETE /after"))
		}
	}
	w.asFound(t)
	for node, before := range w.nodes {
		cluster.Eventually(t, 60*time.Second, node+" is as it was found", func() error {
			state, err := w.NodeTraces(t.Context(), node)
			return errors.Join(err, difference(before, state))
		})
	}
	left, err := w.Try(t.Context(), "", "api-resources", "--api-group=inspection.meerkat.dev", "--no-headers")
	if err != nil || strings.TrimSpace(left) != "" {
		t.Errorf("kinds are left: %s %v", left, err)
	}
}

func difference(before, after string) error {
	if before == after {
		return nil
	}
	return fmt.Errorf("differs from what was found before (-before +after):\n%s", cmp.Diff(strings.Split(before, "\n"), strings.Split(after, "\n")))
}
