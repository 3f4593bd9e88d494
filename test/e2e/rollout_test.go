package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/test/e2e/cluster"
)

// rollout goes the way from Audit to Enforce with the plugin: what it suggests of what was recorded lets that pass, and denies the rest.
func rollout(t *testing.T, w *world) {
	program := filepath.Join(t.TempDir(), "kubectl-meerkat")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/meerkat").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := func(args ...string) (stdout, stderr string, code int) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var out, notes bytes.Buffer
		c := exec.CommandContext(ctx, program, args...)
		c.Stdout, c.Stderr = &out, &notes
		err := c.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return out.String(), notes.String(), c.ProcessState.ExitCode()
	}
	recorder, notes, code := run("suggest", "shop/web", "--policy-name", "seen", "--recorder")
	if code != 0 {
		t.Fatalf("suggest --recorder: %d, %s", code, notes)
	}
	w.Apply(t, recorder)
	removed := false
	defer func() {
		if !removed {
			w.Remove(t, recorder)
		}
	}()
	w.ready(t, "seen-recorder")
	w.everywhere(t, yes("GET /rollout/a"), yes("GET /rollout/b"))

	var policy string
	cluster.Eventually(t, 30*time.Second, "what was seen is suggested", func() error {
		policy, notes, _ = run("suggest", "shop/web", "--policy-name", "seen", "--since", "2m")
		// Two requests of two clients, by two addresses each.
		n := 0
		if _, err := fmt.Sscanf(policy, "# Allows what was seen: %d requests", &n); err != nil || n < 8 || strings.Count(policy, "exact: /rollout/") != 2 {
			return fmt.Errorf("%d requests: %s\n%s", n, notes, policy)
		}
		return nil
	})
	w.Apply(t, policy)
	defer w.Remove(t, policy)
	w.Remove(t, recorder)
	removed = true
	w.ready(t, "seen")

	// It is as it is for seconds only, and would deny something.
	w.everywhere(t, yes("GET /rollout/a"), yes("GET /rollout/other"))
	cluster.Eventually(t, 30*time.Second, "the policy is not to be promoted", func() error {
		out, notes, code := run("promote", "shop/seen", "--since", "1h")
		if code != 3 || !strings.Contains(out, "/rollout/other") || !strings.Contains(out, "evidence of 1h was asked for") || strings.Contains(out, "is not known") {
			return fmt.Errorf("%d, %s\n%s", code, notes, out)
		}
		return nil
	})
	if out, notes, code := run("audit", "-n", "shop"); code != 0 || !strings.Contains(out, "shop/seen would have denied") {
		t.Errorf("audit: %d, %s\n%s", code, notes, out)
	}
	// Those who know better enforce it by the command that is printed.
	out, _, _ := run("promote", "shop/seen", "--since", "1h")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if text, err := exec.CommandContext(t.Context(), "sh", "-c", lines[len(lines)-1]).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", lines[len(lines)-1], err, text)
	}
	generation := w.Kubectl(t, "get", "l7policy", "--namespace=shop", "seen", "-o", "jsonpath={.metadata.generation}")
	w.Kubectl(t, "wait", "--namespace=shop", "--for=jsonpath={.status.observedGeneration}="+generation, "--timeout=60s", "l7policy/seen")
	w.ready(t, "seen")
	w.everywhere(t, yes("GET /rollout/a"), yes("GET /rollout/b"), no("GET /rollout/other"))
}
