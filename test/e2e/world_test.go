package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/test/e2e/cluster"
)

// world is what the tests act on: a shop with a web server, and clients on the server's node and on another. All of it is there
// before Meerkat is.
type world struct {
	*cluster.Cluster
	near, far string // nodes; one and the same in a cluster of one

	// What was there before Meerkat: the network of each Pod, and each node's traces.
	pods, nodes map[string]string
}

// The shop's Pods.
const (
	web        = "shop/web"         // on the near node
	nearClient = "shop/near-client" // on the near node
	farClient  = "shop/far-client"  // on the far node
)

var standing = []string{web, nearClient, farClient}

const shop = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
`

const webPod = `
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: meerkat-dev/workload:dev
    imagePullPolicy: Never
    command: [nginx, -c, /etc/workload/nginx.conf]
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {port: http, path: /healthz}, periodSeconds: 1}
`

const clientPod = `
---
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: shop, labels: {role: client, app: NAME}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 0
  containers: [{name: client, image: meerkat-dev/workload:dev, imagePullPolicy: Never, args: [sleep]}]
`

// prepare starts the shop, where it does not run yet, and notes what is there before Meerkat.
func (w *world) prepare(t *testing.T) {
	nodes := w.Nodes(t)
	w.near, w.far = nodes[0], nodes[len(nodes)-1]
	manifest := shop + strings.ReplaceAll(webPod, "NODE", w.near) +
		strings.NewReplacer("NAME", "near-client", "NODE", w.near).Replace(clientPod) +
		strings.NewReplacer("NAME", "far-client", "NODE", w.far).Replace(clientPod)
	w.Apply(t, manifest)
	w.Kubectl(t, "wait", "--namespace=shop", "--for=condition=Ready", "--timeout=90s", "pod/web", "pod/near-client", "pod/far-client")
	for _, client := range []string{nearClient, farClient} {
		for name, address := range w.addresses(t) {
			w.expect(t, client, name, address, yes("GET /public/before"), yes("DELETE /before"))
		}
	}
	w.pods, w.nodes = map[string]string{}, map[string]string{}
	for _, pod := range standing {
		state, err := w.PodNetwork(t.Context(), pod)
		if err != nil {
			t.Fatal(err)
		}
		w.pods[pod] = state
	}
	if !w.CanReachNodes() {
		t.Log("MEERKAT_E2E_NODE_EXEC is not set: what is left on nodes is not looked at")
		return
	}
	for _, node := range nodes {
		state, err := w.NodeTraces(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		w.nodes[node] = state
	}
}

// addresses are the ways to the web server.
func (w *world) addresses(t *testing.T) map[string]string {
	t.Helper()
	pod := w.Kubectl(t, "get", "pod", "--namespace=shop", "web", "-o", "jsonpath={.status.podIP}")
	service := w.Kubectl(t, "get", "service", "--namespace=shop", "web", "-o", "jsonpath={.spec.clusterIP}")
	return map[string]string{"Pod IP": pod + ":8080", "ClusterIP": service + ":80"}
}

// attempt is a request and what shall come of it.
type attempt struct {
	request string
	allowed bool
}

func yes(request string) attempt { return attempt{request, true} }
func no(request string) attempt  { return attempt{request, false} }

// expect lets a client send requests on one connection, each after the other, and compares what came of them. A connection that did
// not yet exist may take some time to come into being, after a Pod or a Service has changed.
func (w *world) expect(t *testing.T, client, name, address string, attempts ...attempt) {
	t.Helper()
	var requests []string
	for _, a := range attempts {
		requests = append(requests, a.request)
	}
	cluster.Eventually(t, 20*time.Second, client+" by "+name, func() error {
		results, err := w.Requests(t.Context(), client, address, requests...)
		if err != nil {
			return err
		}
		var wrong []string
		for i, a := range attempts {
			switch r := results[i]; {
			case a.allowed && r.Status != 200:
				wrong = append(wrong, fmt.Sprintf("%s should be answered, and was not: %d %s", a.request, r.Status, r.Error))
			case !a.allowed && r.Status != 0:
				t.Fatalf("%s by %s: %s should be denied, and was answered with %d", client, name, a.request, r.Status)
			}
		}
		if len(wrong) > 0 {
			return fmt.Errorf("%s", strings.Join(wrong, "; "))
		}
		return nil
	})
}

// ready waits until a policy of the shop is enforced as it is written.
func (w *world) ready(t *testing.T, policy string) {
	t.Helper()
	if _, err := w.Try(t.Context(), "", "wait", "--namespace=shop", "--for=condition=Ready", "--timeout=60s", "l7policy/"+policy); err != nil {
		got, _ := w.Try(t.Context(), "", "get", "l7policy", "--namespace=shop", policy, "-o", "yaml")
		t.Fatalf("%v\n%s", err, got)
	}
}

// reached counts the requests that came to the web server, of those that its log tells by a text.
func (w *world) reached(t *testing.T, text string) int {
	t.Helper()
	return strings.Count(w.Kubectl(t, "logs", "--namespace=shop", "web"), text)
}
