package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/tracing"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
	"github.com/meerkat-dev/meerkat/test/e2e/cluster"
)

// traced lets the plugin trace requests of both clients, by the Service and by the Pod's address, while both ends are governed, and send
// them, too: what the trace says must be what happens.
func traced(t *testing.T) {
	program := filepath.Join(t.TempDir(), "kubectl-meerkat")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/meerkat").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, client := range []string{nearClient, farClient} {
		for _, server := range []string{"service/shop/web:80", "pod/shop/web:http"} {
			for request, by := range map[string][]string{"POST /orders/11": nil, "POST /orders/25": {"shop/storefront"}, "GET /public/26": {"shop/purchases"}} {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				out, err := exec.CommandContext(ctx, program, "trace", "--from", client, "--to", server, "--http", request, "--live", "-o", "json").Output()
				cancel()
				var a tracing.Answer
				if err == nil {
					err = json.Unmarshal(out, &a)
				}
				if err != nil {
					t.Errorf("%s, %s -> %s: %v\n%s", request, client, server, err, out)
					continue
				}
				v := a.Verdict
				if a.Live == nil || !a.Live.Agrees || v.Passes() != (by == nil) || by != nil && !slices.Equal(v.Policies, by) {
					t.Errorf("%s, %s -> %s: %+v, live %+v", request, client, server, v, a.Live)
				}
				for _, h := range a.Hops {
					for _, s := range h.Steps {
						if s.What == "" {
							t.Errorf("a flow without an explanation: %+v", s)
						}
					}
				}
			}
		}
	}
	observed(t, program)
	out, err := exec.CommandContext(t.Context(), program, "explain", "policy", "shop/storefront").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "rules of Suricata") || !strings.Contains(string(out), "PortVerdict") || !strings.Contains(string(out), "shop/web on ") {
		t.Errorf("explain policy: %v\n%s", err, out)
	}
	t.Log("12 traces")
}

// observed reads what the agents of both nodes have told of the requests that were denied.
func observed(t *testing.T, program string) {
	t.Helper()
	for path, policy := range map[string]string{"/orders/25": "shop/storefront", "/public/26": "shop/purchases"} {
		cluster.Eventually(t, 10*time.Second, "the denials of "+path+" are observed", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			out, err := exec.CommandContext(ctx, program, "observe", "--since", "5m", "--policy", policy, "--verdict", "deny", "--path", path, "-o", "json").Output()
			if err != nil {
				return err
			}
			clients := map[string]bool{}
			for line := range strings.Lines(string(out)) {
				var e verdict.Event
				if err := json.Unmarshal([]byte(line), &e); err != nil || e.HTTP == nil || e.HTTP.Path != path || !slices.Contains(e.Policies, policy) {
					t.Fatalf("%v: %s", err, line)
				}
				clients[e.Client.Name] = true
			}
			if !clients[nearClient] || !clients[farClient] {
				return fmt.Errorf("the clients are %v", clients)
			}
			return nil
		})
	}
}
