package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/test/e2e/cluster"
)

// waysPod is a server that every kind of Service leads to.
const waysPod = `
---
apiVersion: v1
kind: Pod
metadata: {name: ways-ON, namespace: shop, labels: {app: ways, "on": ON}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: meerkat-dev/workload:dev
    imagePullPolicy: Never
    command: [nginx, -c, /etc/workload/nginx.conf]
    ports: [{name: http, containerPort: 8080, hostPort: 18080}]
    readinessProbe: {httpGet: {port: http, path: /healthz}, periodSeconds: 1}
`

const waysService = `
---
apiVersion: v1
kind: Service
metadata: {name: ways-NAME, namespace: shop}
spec: {selector: {SELECTOR}, ipFamilyPolicy: PreferDualStack, ports: [{name: web, port: 80, targetPort: httpNODEPORT}]SPEC}
`

// wayIn is a way into a Pod: a kind of Service, and where its clients ask for it.
type wayIn struct {
	name string
	// spec and nodePort are parts of the Service; no Service is made for a way without spec.
	spec, nodePort string
	// anywhere: the Service has an endpoint on either node, and else one on the far node alone.
	anywhere bool
	// times is how many connections are made; 0: one.
	times int
	at    func(a addresses) string
	// asWritten: a governed client's node does not resolve it, so that only the server's edge is tried.
	asWritten bool
}

// addresses are those of one family.
type addresses struct{ near, far, service, pod, external, balancer string }

const plainService = " " // nothing beside what all Services have

var ways = []wayIn{
	{name: "pod-ip", at: func(a addresses) string { return net.JoinHostPort(a.pod, "8080") }},
	{name: "cluster-ip", spec: plainService, anywhere: true, at: func(a addresses) string { return net.JoinHostPort(a.service, "80") }},
	{name: "headless", spec: ", clusterIP: None", at: func(a addresses) string { return net.JoinHostPort(a.pod, "8080") }},
	{
		name: "affinity", spec: ", sessionAffinity: ClientIP", anywhere: true, times: 4,
		at: func(a addresses) string { return net.JoinHostPort(a.service, "80") },
	},
	{
		name: "internal-local", spec: ", internalTrafficPolicy: Local", anywhere: true, times: 4,
		at: func(a addresses) string { return net.JoinHostPort(a.service, "80") },
	},
	{
		name: "node-port", spec: ", type: NodePort", nodePort: ", nodePort: 30880",
		at: func(a addresses) string { return net.JoinHostPort(a.near, "30880") },
	},
	{
		name: "node-port-local", spec: ", type: NodePort, externalTrafficPolicy: Local", nodePort: ", nodePort: 30881",
		at: func(a addresses) string { return net.JoinHostPort(a.far, "30881") },
	},
	{
		name: "load-balancer", spec: ", type: LoadBalancer", nodePort: ", nodePort: 30882",
		at: func(a addresses) string { return net.JoinHostPort(a.balancer, "80") },
	},
	{
		name: "external-ip", spec: ", externalIPs: [" + externalIPv4 + `, "` + externalIPv6 + `"]`,
		at: func(a addresses) string { return net.JoinHostPort(a.external, "80") },
	},
	{name: "host-port", asWritten: true, at: func(a addresses) string { return net.JoinHostPort(a.far, "18080") }},
}

// outside are the ways of a client that is none of the cluster's.
var outside = []wayIn{
	// kube-proxy hides it behind the Pod's own node.
	{name: "node-port", at: func(a addresses) string { return net.JoinHostPort(a.far, "30880") }},
	{name: "node-port-local", at: func(a addresses) string { return net.JoinHostPort(a.far, "30881") }},
	{name: "host-port", at: func(a addresses) string { return net.JoinHostPort(a.far, "18080") }},
}

const (
	externalIPv4, externalIPv6 = "198.51.100.80", "2001:db8:51::80"
	balancerIPv4, balancerIPv6 = "203.0.113.80", "2001:db8:113::80"

	balancerStatus = `{"status":{"loadBalancer":{"ingress":[{"ip":"` + balancerIPv4 + `"},{"ip":"` + balancerIPv6 + `"}]}}}`
)

const waysIn = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: L7Policy
metadata: {name: ways-in, namespace: shop}
spec:
  podSelector: {matchLabels: {app: ways}}
  ingress:
  - from: [{podSelector: {matchLabels: {role: client}}}, BLOCKS]
    ports: [{port: 8080}]
    l7: [{http: {methods: [GET], path: {prefix: /public/}}}]
`

const waysOut = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: L7Policy
metadata: {name: ways-out, namespace: shop}
spec:
  podSelector: {matchLabels: {role: client}}
  egress:
  - to: [{podSelector: {matchLabels: {app: ways}}}]
    ports: [{port: 8080}]
    l7: [{http: {methods: [GET], path: {prefix: /public/}}}]
`

// services asks for servers by every kind of Service, governed at the servers' edge, and then at the clients'. The Services stand in the
// mode of kube-proxy that the cluster has: KUBE_PROXY=iptables make e2e.
func services(t *testing.T, w *world) {
	if w.near == w.far {
		t.Skip("this needs two nodes: of what enters by a node's own address, the other node sees that node")
	}
	byFamily := w.deployWays(t)
	// By the near node's port, the servers see that node.
	ingress := strings.ReplaceAll(waysIn, "BLOCKS", blocks(append(w.outsiders(t), w.nodeAddresses(t, w.near)...)))
	for _, edge := range []struct{ name, policy, manifest string }{{"server", "ways-in", ingress}, {"client", "ways-out", waysOut}} {
		w.Apply(t, edge.manifest)
		w.ready(t, edge.policy)
		for family, at := range byFamily {
			for _, way := range ways {
				if way.asWritten && edge.name == "client" {
					continue
				}
				name := strings.Join([]string{way.name, edge.name, family}, "-")
				for range max(way.times, 1) {
					w.expect(t, nearClient, name, way.at(at[way.name]), yes("GET /public/"+name), no("DELETE /public/ways"))
				}
			}
			// Each edge, and each of a client's addresses, has an endpoint of its own.
			w.atOneServer(t, "near", fmt.Sprintf("GET /public/internal-local-%s-%s", edge.name, family))
			w.atOneServer(t, "", fmt.Sprintf("GET /public/affinity-%s-%s", edge.name, family))
			if edge.name == "server" && w.CanStopServices() {
				for _, way := range outside {
					w.fromOutside(t, way.name+", "+family, way.at(at[way.name]))
				}
			}
		}
		w.Remove(t, edge.manifest)
	}
	for _, pod := range []string{"ways-near", "ways-far"} {
		if log := w.Kubectl(t, "logs", "--namespace=shop", pod); strings.Contains(log, "DELETE") {
			t.Errorf("what is denied has reached %s:\n%s", pod, log)
		}
	}
}

// deployWays starts the servers and makes the Services, and gives where each is reached, by family and way.
func (w *world) deployWays(t *testing.T) map[string]map[string]addresses {
	manifest := strings.NewReplacer("ON", "near", "NODE", w.near).Replace(waysPod) + strings.NewReplacer("ON", "far", "NODE", w.far).Replace(waysPod)
	for _, way := range ways {
		selector := `app: ways, "on": far`
		if way.anywhere {
			selector = "app: ways"
		}
		if way.spec != "" {
			manifest += strings.NewReplacer("NAME", way.name, "NODEPORT", way.nodePort, "SELECTOR", selector, "SPEC", way.spec).Replace(waysService)
		}
	}
	w.Apply(t, manifest)
	w.Kubectl(t, "patch", "service", "--namespace=shop", "ways-load-balancer", "--subresource=status", "--type=merge", "--patch", balancerStatus)
	w.Kubectl(t, "wait", "--namespace=shop", "--for=condition=Ready", "--timeout=90s", "pod/ways-near", "pod/ways-far")
	near, far := w.nodeAddresses(t, w.near), w.nodeAddresses(t, w.far)
	pod := strings.Fields(w.Kubectl(t, "get", "pod", "--namespace=shop", "ways-far", "-o", "jsonpath={.status.podIPs[*].ip}"))
	const each = `jsonpath={range .items[*]}{.metadata.name}{range .spec.clusterIPs[*]} {@}{end}{"\n"}{end}`
	services := map[string][]string{}
	for line := range strings.Lines(w.Kubectl(t, "get", "services", "--namespace=shop", "-o", each)) {
		words := strings.Fields(line)
		services[strings.TrimPrefix(words[0], "ways-")] = words[1:]
	}
	all := map[string]map[string]addresses{}
	for i, family := range []string{"IPv4", "IPv6"} {
		if len(pod) <= i || len(near) <= i || len(far) <= i {
			continue // of a cluster that has one
		}
		all[family] = map[string]addresses{}
		for _, way := range ways {
			a := addresses{near: near[i], far: far[i], pod: pod[i], external: []string{externalIPv4, externalIPv6}[i], balancer: []string{balancerIPv4, balancerIPv6}[i]}
			if ips := services[way.name]; len(ips) > i {
				a.service = ips[i]
			}
			all[family][way.name] = a
		}
	}
	return all
}

func (w *world) nodeAddresses(t *testing.T, node string) []string {
	return strings.Fields(w.Kubectl(t, "get", "node", node, "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address}`))
}

// outsiders are the addresses of the control plane's machine, where it is one that the tests may use as a client.
func (w *world) outsiders(t *testing.T) []string {
	if !w.CanStopServices() {
		return nil
	}
	out, err := w.OnNode(t.Context(), controlPlane, "hostname", "-I")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(out)
}

// blocks are addresses as a rule's peers.
func blocks(addresses []string) string {
	var peers []string
	for _, ip := range addresses {
		bits := 32
		if strings.Contains(ip, ":") {
			bits = 128
		}
		peers = append(peers, fmt.Sprintf("{ipBlock: {cidr: %q}}", fmt.Sprintf("%s/%d", ip, bits)))
	}
	return strings.Join(peers, ", ")
}

// fromOutside asks from the control plane's machine, which a policy names by its own address: whoever took it for the node by which it
// comes would deny what is allowed, or, where that is the Pod's own node, allow all.
func (w *world) fromOutside(t *testing.T, name, address string) {
	t.Helper()
	ask := func(method string) (string, error) {
		return w.OnNode(t.Context(), controlPlane, "curl", "-gsSm3", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, "http://"+address+"/public/outside")
	}
	cluster.Eventually(t, 20*time.Second, "a client outside of the cluster, by "+name, func() error {
		code, err := ask("GET")
		if err == nil && code != "200" {
			err = fmt.Errorf("it is answered with %s", code)
		}
		return err
	})
	if code, err := ask("DELETE"); err == nil {
		t.Errorf("a client outside of the cluster, by %s: DELETE should be denied, and was answered with %s", name, code)
	}
}

// atOneServer wants a request to have reached one server, on every try: the one on a node, if that is given.
func (w *world) atOneServer(t *testing.T, on, request string) {
	t.Helper()
	cluster.Eventually(t, 5*time.Second, request+" has come to one server alone", func() error { // logs take their time
		var reached []string
		for _, at := range []string{"near", "far"} {
			if strings.Contains(w.Kubectl(t, "logs", "--namespace=shop", "ways-"+at), "reached "+request+" ") {
				reached = append(reached, at)
			}
		}
		if len(reached) != 1 || (on != "" && reached[0] != on) {
			return fmt.Errorf("it came to those on the nodes %q", reached)
		}
		return nil
	})
}
