package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/test/e2e/cluster"
)

const prometheus = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: prometheus, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: e2e-prometheus}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: meerkat-metrics-reader}
subjects: [{kind: ServiceAccount, namespace: shop, name: prometheus}]
`

// scraped reads the agents' metrics as Prometheus does, at their nodes' addresses, and as others, who get nothing.
func scraped(t *testing.T, w *world) {
	t.Helper()
	w.Apply(t, prometheus)
	defer w.Remove(t, prometheus)
	token := w.Kubectl(t, "create", "token", "--namespace=shop", "prometheus")
	other := w.Kubectl(t, "create", "token", "--namespace=shop", "default")
	for _, node := range []string{w.near, w.far} {
		address := w.Kubectl(t, "get", "node", node, "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address}`)
		url := "https://" + strings.Fields(address)[0] + ":9967/metrics"
		for who, want := range map[string]string{"Bearer " + token: "200", "Bearer " + other: "403", "": "401"} {
			cluster.Eventually(t, 20*time.Second, "metrics of "+node, func() error {
				// From the other node: this machine may have no way to nodes.
				from := map[string]string{w.near: w.far, w.far: w.near}[node]
				text, err := w.OnNode(t.Context(), from, "curl", "-sSkm5", "-w", "\n%{http_code}", "-H", "Authorization: "+who, url)
				status := text[strings.LastIndex(text, "\n")+1:]
				switch {
				case err != nil:
					return err
				case status != want:
					return fmt.Errorf("the answer is %q, not %s", status, want)
				case strings.Contains(text, "meerkat_governed_pods") != (want == "200"):
					return fmt.Errorf("%s, with %d bytes", status, len(text))
				}
				return nil
			})
		}
	}
}
