package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/test/e2e/cluster"
)

// pressure are the Pods under load. web is governed at its ingress, and near at its egress: what goes from far to web is judged at the
// server alone, from near to orders at the client alone, and from near to web at both. Everything that is killed is killed on the
// node of web and near.
const pressure = `
apiVersion: v1
kind: Namespace
metadata: {name: pressure}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: pressure}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: pressure}
spec: {selector: {app: orders}, ports: [{name: http, port: 80, targetPort: http}]}
`

const pressureServer = `
---
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: pressure, labels: {app: NAME, role: server}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 0
  containers:
  - name: server
    image: meerkat-dev/workload:dev
    imagePullPolicy: Never
    command: [nginx, -c, /etc/workload/nginx.conf]
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {port: http, path: /healthz}}
`

const pressureClient = `
---
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: pressure, labels: {app: NAME, role: client}}
spec:
  nodeName: NODE
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers: [{name: client, image: meerkat-dev/workload:dev, imagePullPolicy: Never, args: [ARGS]}]
`

const ingressUnderPressure = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: L7Policy
metadata: {name: web, namespace: pressure}
spec:
  podSelector: {matchLabels: {app: web}}
  failurePolicy: Closed
  ingress:
  - from: [{podSelector: {matchLabels: {role: client}}}]
    ports: [{protocol: TCP, port: http}]
    l7:
    - http: {methods: [GET], path: {prefix: /public/}}
`

const egressUnderPressure = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: L7Policy
metadata: {name: near, namespace: pressure}
spec:
  podSelector: {matchLabels: {app: near}}
  failurePolicy: Closed
  egress:
  - to: [{podSelector: {matchLabels: {role: server}}}]
    ports: [{protocol: TCP, port: 8080}]
    l7:
    - http: {methods: [GET], path: {prefix: /public/}}
`

// What the clients send.
const (
	allowedRequest   = "GET /public/load"
	forbiddenRequest = "GET /forbidden/load"
	recordsPort      = "9090"
)

// failures is the world of TestFailures.
type failures struct {
	*world
	clients []*loaded
	// windows are what was done, and when, in order.
	windows []window
	mu      sync.Mutex
	notes   []string
	// broken says that what is left to do makes no sense.
	broken bool
}

// loaded is a client under load.
type loaded struct {
	name, node, address string
	targets             []string // what its addresses are called
	addresses           []string
}

func newFailures(t *testing.T, w *world) *failures {
	nodes := w.Nodes(t)
	w.near, w.far = nodes[0], nodes[len(nodes)-1]
	f := &failures{world: w}
	w.deploy(t)
	w.Remove(t, egressUnderPressure+"---"+ingressUnderPressure) // of a run that was killed
	pod := func(template, name, node string) string {
		return strings.NewReplacer("NAME", name, "NODE", node).Replace(template)
	}
	w.Apply(t, pressure+pod(pressureServer, "web", w.near)+pod(pressureServer, "orders", w.far))
	w.Kubectl(t, "wait", "--namespace=pressure", "--for=condition=Ready", "--timeout=90s", "pod", "--all")
	targets := map[string]string{}
	for _, server := range []string{"web", "orders"} {
		targets[server+" by Pod IP"] = f.pod(t, server) + ":8080"
		targets[server+" by ClusterIP"] = w.Kubectl(t, "get", "service", "-n", "pressure", server, "-o", "jsonpath={.spec.clusterIP}") + ":80"
	}
	client := func(name, node string, servers ...string) {
		c := &loaded{name: name, node: node}
		for _, server := range servers {
			for _, by := range []string{" by Pod IP", " by ClusterIP"} {
				c.targets, c.addresses = append(c.targets, server+by), append(c.addresses, targets[server+by])
			}
		}
		f.clients = append(f.clients, c)
	}
	client("near", w.near, "web", "orders")
	client("far", w.far, "web")
	return f
}

func (f *failures) pod(t *testing.T, name string) string {
	t.Helper()
	return f.Kubectl(t, "get", "pod", "-n", "pressure", name, "-o", "jsonpath={.status.podIP}")
}

// unguarded sees that forbidden requests pass while nobody governs, and that the servers' logs tell of them.
func (f *failures) unguarded(t *testing.T) {
	for _, server := range []string{"web", "orders"} {
		cluster.Eventually(t, 10*time.Second, server+" tells of forbidden requests while nobody governs", func() error {
			out, err := f.Try(t.Context(), "", "logs", "-n", "pressure", server)
			if err == nil && !strings.Contains(out, forbiddenRequest) {
				err = fmt.Errorf("there is none")
			}
			return err
		})
	}
}

// govern applies the policies, and gives the flows that the near node's bridge held between the two.
func (f *failures) govern(t *testing.T) (stale string) {
	f.Apply(t, ingressUnderPressure)
	f.enforced(t, "web")
	stale, err := f.onBridge(t.Context(), dumpFlows)
	if err != nil {
		t.Fatal(err)
	}
	f.Apply(t, egressUnderPressure)
	f.enforced(t, "near")
	return stale
}

func (f *failures) enforced(t *testing.T, policy string) {
	t.Helper()
	if _, err := f.Try(t.Context(), "", "wait", "-n", "pressure", "--for=condition=Ready", "--timeout=60s", "l7policy/"+policy); err != nil {
		got, _ := f.Try(t.Context(), "", "get", "l7policy", "-n", "pressure", policy, "-o", "yaml")
		t.Fatalf("%v\n%s", err, got)
	}
}

// start starts the load.
func (f *failures) start(t *testing.T) {
	for _, c := range f.clients {
		args := []string{"load", ":" + recordsPort, allowedRequest, forbiddenRequest}
		for i := range args {
			args[i] = strconv.Quote(args[i])
		}
		for _, address := range c.addresses {
			args = append(args, strconv.Quote(address))
		}
		f.Apply(t, strings.NewReplacer("NAME", c.name, "NODE", c.node, "ARGS", strings.Join(args, ", ")).Replace(pressureClient))
	}
	for _, c := range f.clients {
		f.Kubectl(t, "wait", "-n", "pressure", "--for=condition=Ready", "--timeout=60s", "pod/"+c.name)
		c.address = f.pod(t, c.name) + ":" + recordsPort
	}
}

// settled waits until a request that is sent from now on is answered on every connection that is kept open.
func (f *failures) settled(t *testing.T) {
	t.Helper()
	began := time.Now().UnixMicro()
	for _, c := range f.clients {
		want := fmt.Sprint(2 * len(c.addresses))
		cluster.Eventually(t, time.Minute, "the kept connections of "+c.name+" go on", func() error {
			got, err := f.OnNode(t.Context(), c.node, "curl", "-sSm", "1", fmt.Sprintf("http://%s/since?us=%d", c.address, began))
			if err == nil && strings.TrimSpace(got) != want {
				err = fmt.Errorf("%s of %s do", strings.TrimSpace(got), want)
			}
			return err
		})
	}
}

// bridge is the near node's, as ovs-ofctl reaches it in the switch's container.
const bridge = "unix:/run/meerkat/ovs/mk-br0.mgmt"

const dumpFlows = `ovs-ofctl -O OpenFlow15 --no-stats dump-flows ` + bridge + ` | grep -v reply | sort`

// onBridge runs a shell's script on the near node, beside ovs-vswitchd, where the node's own programs of Open vSwitch are.
func (f *failures) onBridge(ctx context.Context, script string, args ...string) (string, error) {
	pid, err := f.OnNode(ctx, f.near, "pgrep", "-xo", "ovs-vswitchd")
	if err != nil {
		return "", err
	}
	command := []string{"nsenter", "-t", strings.TrimSpace(pid), "-m", "--", "sh", "-c", script, "sh"}
	return f.OnNode(ctx, f.near, append(command, args...)...)
}
