package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/test/e2e/cluster"
)

// Of firstPacket.
const (
	hastyPods  = 50
	hastyBatch = 10 // started at once
)

const hastyPolicy = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: L7Policy
metadata: {name: hasty, namespace: shop}
spec:
  podSelector: {matchLabels: {app: hasty}}
  failurePolicy: Closed
  egress:
  - name: pages
    to: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{protocol: TCP, port: 8080}]
    l7:
    - http: {methods: [GET], path: {prefix: /public/}}
`

const hastyPod = `
---
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: shop, labels: {app: APP}}
spec:
  nodeName: NODE
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers: [{name: client, image: meerkat-dev/workload:dev, imagePullPolicy: Never, args: [first, "ADDRESS", "GET /forbidden/NAME"]}]
`

// firstPacket starts Pods that send a forbidden request with their program's first instruction, and again until two seconds are over.
func firstPacket(t *testing.T, w *world) {
	w.Apply(t, hastyPolicy)
	w.Kubectl(t, "wait", "--namespace=shop", "--for=condition=Accepted", "--timeout=60s", "l7policy/hasty")
	addresses := w.addresses(t)

	// A Pod that nobody governs is answered: so the others might be.
	free, _ := w.hasten(t, "free", 0, 2, addresses)
	for _, name := range free {
		if w.reached(t, "/forbidden/"+name+" ") == 0 {
			t.Errorf("%s is not governed, and did not reach the server", name)
		}
	}
	began := time.Now()
	passed := 0
	for i := 0; i < hastyPods; i += hastyBatch {
		governed, tries := w.hasten(t, "hasty", i, hastyBatch, addresses)
		for _, name := range governed {
			if n := w.reached(t, "/forbidden/"+name+" "); n != 0 {
				passed++
				t.Errorf("%s sent a forbidden request that reached the server", name)
			}
		}
		t.Logf("%d Pods of %d: %d tries, %d Pods got through", i+len(governed), hastyPods, tries, passed)
	}
	t.Logf("%d Pods in %s: %d passed", hastyPods, time.Since(began).Round(time.Second), passed)
}

// hasten starts Pods, half of which go to each address, and gives their names and how often they tried.
func (w *world) hasten(t *testing.T, app string, from, count int, addresses map[string]string) ([]string, int) {
	t.Helper()
	var manifest strings.Builder
	var names, pods []string
	for i := from; i < from+count; i++ {
		name, node, address := fmt.Sprintf("%s-%d", app, i), w.near, addresses["Pod IP"]
		if i%2 == 1 {
			address = addresses["ClusterIP"]
		}
		if i%4 >= 2 {
			node = w.far
		}
		manifest.WriteString(strings.NewReplacer("NAME", name, "APP", app, "NODE", node, "ADDRESS", address).Replace(hastyPod))
		names, pods = append(names, name), append(pods, "pod/"+name)
	}
	if _, err := w.Try(t.Context(), manifest.String(), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	defer w.Remove(t, manifest.String())
	if _, err := w.Try(t.Context(), "", append([]string{"wait", "--namespace=shop", "--for=condition=Ready", "--timeout=90s"}, pods...)...); err != nil {
		events, _ := w.Try(t.Context(), "", "get", "events", "--namespace=shop", "--field-selector=type=Warning")
		t.Fatalf("governed Pods do not start: %v\n%s", err, events)
	}
	tries := 0
	for _, name := range names {
		cluster.Eventually(t, 10*time.Second, name+" has tried", func() error {
			var told struct {
				Status, Tries int
			}
			out := w.Kubectl(t, "logs", "--namespace=shop", name)
			if err := json.Unmarshal([]byte(out), &told); err != nil {
				return fmt.Errorf("%q: %w", out, err)
			}
			tries += told.Tries
			return nil
		})
	}
	return names, tries
}
