package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/test/e2e/cluster"
)

// Of sidecars. Each Pod below has a signature engine of its own.
const sidecarRules = `
apiVersion: v1
kind: Namespace
metadata: {name: within}
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: RuleSet
metadata: {name: local, namespace: within}
spec:
  sources:
  - name: local
    inline: |
      alert http any any -> any any (msg:"E2E evil"; flow:established,to_server; http.uri; content:"/EVIL/"; sid:1000001; rev:1;)
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: TrafficInspection
metadata: {name: within, namespace: within}
spec:
  podSelector: {}
  placement: Sidecar
  ruleSets: [{name: local}]
`

// sidecarWeb is what a user keeps in Git.
const sidecarWeb = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: within}
spec: {selector: {app: web}, ipFamilyPolicy: PreferDualStack, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: within}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {kubernetes.io/hostname: NODE}
      containers:
      - name: web
        image: meerkat-dev/workload:dev
        imagePullPolicy: Never
        command: [nginx, -c, /etc/workload/nginx.conf]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {port: http, path: /healthz}, periodSeconds: 1}
        lifecycle: {preStop: {exec: {command: [workload, request, "127.0.0.1:8080", "GET /WORSE/last"]}}}
`

// sidecarJob sends a request with its program's first instruction, and ends.
const sidecarJob = `
---
apiVersion: batch/v1
kind: Job
metadata: {name: NAME, namespace: within}
spec:
  backoffLimit: 0
  template:
    metadata: {labels: {app: caller}}
    spec:
      restartPolicy: Never
      nodeSelector: {kubernetes.io/hostname: NODE}
      containers: [{name: caller, image: meerkat-dev/workload:dev, imagePullPolicy: Never, args: [request, "ADDRESS", "GET /EVIL/NAME"]}]
`

// sidecarAlert is what is looked at of an alert's line.
type sidecarAlert struct {
	Type        string   `json:"type"`
	Inspections []string `json:"inspections"`
	Direction   string   `json:"direction"`
	Signature   struct {
		SID int `json:"sid"`
	} `json:"signature"`
	Source, Destination struct {
		Name       string                 `json:"name"`
		EndpointOf []string               `json:"endpointOf"`
		Service    *struct{ Name string } `json:"service"`
	}
	Detail struct {
		HTTP struct{ URL string } `json:"http"`
	} `json:"detail"`
}

// sidecarAlerts are those that both agents have written about a URL, since the test began.
func (w *world) sidecarAlerts(t *testing.T, url string) []sidecarAlert {
	t.Helper()
	var all []sidecarAlert
	began := w.Kubectl(t, "get", "namespace", "within", "-o", "jsonpath={.metadata.creationTimestamp}")
	for pod := range strings.FieldsSeq(w.Kubectl(t, "get", "pods", "-n", "meerkat-system", "-l", "app.kubernetes.io/component=node", "-o", "name")) {
		for line := range strings.Lines(w.Kubectl(t, "logs", "-n", "meerkat-system", pod, "-c", "agent", "--since-time="+began)) {
			var a sidecarAlert
			if json.Unmarshal([]byte(line), &a) == nil && a.Signature.SID != 0 && a.Detail.HTTP.URL == url {
				all = append(all, a)
			}
		}
	}
	return all
}

// sidecars puts engines into Pods, and sees them do their work and be no trouble.
func sidecars(t *testing.T, w *world) {
	began := time.Now()
	step := func(what string) { t.Logf("[%3.0fs] %s", time.Since(began).Seconds(), what) }
	w.Apply(t, sidecarRules)
	cluster.Eventually(t, 60*time.Second, "the rules are ready for Pods", func() error {
		_, err := w.Try(t.Context(), "", "get", "configmap", "-n", "within", "meerkat-within-rules-0")
		return err
	})
	step("the rules are in a ConfigMap")

	// A Deployment, as from Git: the Pod gets its engine, and what was applied does not differ from what is there.
	web := strings.ReplaceAll(sidecarWeb, "NODE", w.near)
	w.Apply(t, web)
	w.Kubectl(t, "rollout", "status", "-n", "within", "--timeout=60s", "deployment/web")
	if out, err := w.Try(t.Context(), web, "diff", "-f", "-"); err != nil || out != "" {
		t.Errorf("what is there differs from what was applied: %v\n%s", err, out)
	}
	server := "within/" + w.Kubectl(t, "get", "pods", "-n", "within", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
	step("the Deployment runs, with its sidecar, and without drift")
	w.sidecarReady(t, "within")
	step("the inspection is ready")

	// Jobs: their first packet is inspected, by the engines of both ends, and they complete.
	name := strings.TrimPrefix(server, "within/")
	addresses := map[string]string{}
	for i, ip := range strings.Fields(w.Kubectl(t, "get", "pod", "-n", "within", name, "-o", "jsonpath={.status.podIPs[*].ip}")) {
		addresses[fmt.Sprintf("pod%d", i)] = hostPort(ip, "8080")
	}
	for i, ip := range strings.Fields(w.Kubectl(t, "get", "service", "-n", "within", "web", "-o", "jsonpath={.spec.clusterIPs[*]}")) {
		addresses[fmt.Sprintf("service%d", i)] = hostPort(ip, "80")
	}
	var jobs strings.Builder
	var names []string
	for where, node := range map[string]string{"near": w.near, "far": w.far} {
		for by, address := range addresses {
			names = append(names, where+"-"+by)
			jobs.WriteString(strings.NewReplacer("NAME", where+"-"+by, "NODE", node, "ADDRESS", address).Replace(sidecarJob))
		}
	}
	slices.Sort(names)
	w.Apply(t, jobs.String())
	w.Kubectl(t, "wait", "-n", "within", "--for=condition=Complete", "--timeout=60s", "job", "--all")
	step(fmt.Sprintf("%d Jobs are complete", len(names)))
	for _, job := range names {
		w.sidecarsSaw(t, job, server, strings.Contains(job, "service"), strings.HasPrefix(job, "near") || w.near == w.far)
	}
	step("each connection raised an alert at both ends")

	w.sidecarRuleChange(t, name, addresses["pod0"], step)
	w.sidecarStops(t, name, step)
	w.sidecarPodSecurity(t, step)
}

func hostPort(ip, port string) string {
	if strings.Contains(ip, ":") {
		return "[" + ip + "]:" + port
	}
	return ip + ":" + port
}

// sidecarReady waits until an inspection of the namespace of its name says that it is ready.
func (w *world) sidecarReady(t *testing.T, name string) {
	t.Helper()
	if _, err := w.Try(t.Context(), "", "wait", "-n", name, "--for=condition=Ready", "--timeout=60s", "trafficinspection/"+name); err != nil {
		got, _ := w.Try(t.Context(), "", "get", "trafficinspection,pods", "-n", name, "-o", "yaml")
		t.Fatalf("%v\n%s", err, got)
	}
}

// sidecarsSaw waits for the alerts of both ends of a Job's request, and looks at the names in them.
func (w *world) sidecarsSaw(t *testing.T, job, server string, byService, oneNode bool) {
	t.Helper()
	cluster.Eventually(t, 20*time.Second, job+" is seen at both ends", func() error {
		all := w.sidecarAlerts(t, "/EVIL/"+job)
		var faults []string
		seen := map[string]int{}
		for _, a := range all {
			seen[a.Direction]++
			// A client on another node has no name by its second address: see docs/sidecar.md.
			nameless := a.Direction == "Ingress" && !oneNode && strings.HasSuffix(job, "1") && a.Source.Name == ""
			if !strings.HasPrefix(a.Source.Name, "within/"+job+"-") && !nameless {
				faults = append(faults, fmt.Sprintf("%s: the client is %q", a.Direction, a.Source.Name))
			}
			if a.Destination.Name != server {
				faults = append(faults, fmt.Sprintf("%s: the server is %q", a.Direction, a.Destination.Name))
			}
			service := a.Destination.Service != nil && a.Destination.Service.Name == "within/web"
			known := a.Direction == "Egress" || oneNode // the server's node does not see what another node has translated
			if byService && known && !service || !byService && a.Destination.Service != nil {
				faults = append(faults, fmt.Sprintf("%s: the Service is %+v", a.Direction, a.Destination.Service))
			}
			if a.Destination.Service == nil && !slices.Equal(a.Destination.EndpointOf, []string{"within/web"}) {
				faults = append(faults, fmt.Sprintf("%s: it is an endpoint of %v", a.Direction, a.Destination.EndpointOf))
			}
		}
		if seen["Egress"] != 1 || seen["Ingress"] != 1 || len(faults) > 0 {
			return fmt.Errorf("%v; %s", seen, strings.Join(faults, "; "))
		}
		return nil
	})
}

// sidecarRuleChange gives the rule set another rule, which comes into force without a restart of anything.
func (w *world) sidecarRuleChange(t *testing.T, pod, address string, step func(string)) {
	t.Helper()
	changed := strings.ReplaceAll(sidecarRules, "content:\"/EVIL/\"; sid:1000001", "content:\"/WORSE/\"; sid:1000002")
	if _, err := w.Try(t.Context(), changed, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	before := w.Kubectl(t, "get", "configmap", "-n", "within", "meerkat-within-rules-0", "-o", "jsonpath={.metadata.annotations}")
	cluster.Eventually(t, 60*time.Second, "the new rules are in the ConfigMap", func() error {
		if w.Kubectl(t, "get", "configmap", "-n", "within", "meerkat-within-rules-0", "-o", "jsonpath={.metadata.annotations}") == before {
			return fmt.Errorf("they are not")
		}
		return nil
	})
	step("other rules are in the ConfigMap")
	// The kubelet looks after a minute or so, or when the Pod changes.
	w.Kubectl(t, "annotate", "pod", "-n", "within", pod, "e2e/hurry=1")
	cluster.Eventually(t, 60*time.Second, "an alert of the new rule", func() error {
		if _, err := w.Requests(t.Context(), nearClient, address, "GET /WORSE/1"); err != nil {
			return err
		}
		if len(w.sidecarAlerts(t, "/WORSE/1")) == 0 {
			return fmt.Errorf("there is none")
		}
		return nil
	})
	step("other rules are in force")
	restarts := w.Kubectl(t, "get", "pod", "-n", "within", pod, "-o", "jsonpath={.status.initContainerStatuses[*].restartCount} {.status.containerStatuses[*].restartCount}")
	if restarts != "0 0" {
		t.Errorf("containers were restarted: %s", restarts)
	}
}

// sidecarStops deletes a Pod: its own containers end first, and are inspected to their end, and the engine's does not keep it.
func (w *world) sidecarStops(t *testing.T, pod string, step func(string)) {
	t.Helper()
	began := time.Now()
	w.Kubectl(t, "delete", "pod", "-n", "within", pod, "--timeout=60s")
	took := time.Since(began)
	if took > 15*time.Second {
		t.Errorf("the Pod took %s to end", took)
	}
	cluster.Eventually(t, 20*time.Second, "what the Pod did at its end is seen, over the loopback interface", func() error {
		all := w.sidecarAlerts(t, "/WORSE/last")
		if len(all) != 1 || all[0].Source.Name != "within/"+pod || all[0].Destination.Name != "within/"+pod {
			return fmt.Errorf("the alerts are %+v", all)
		}
		return nil
	})
	step(fmt.Sprintf("a Pod ended after %.1f s, and its last request was inspected", took.Seconds()))
}

const sidecarLevels = `
---
apiVersion: v1
kind: Namespace
metadata: {name: LEVEL, labels: {pod-security.kubernetes.io/enforce: LEVEL}}
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: TrafficInspection
metadata: {name: LEVEL, namespace: LEVEL}
spec: {podSelector: {}, placement: Sidecar, ruleSets: [{kind: ClusterRuleSet, name: e2e}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: LEVEL, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: web
    image: meerkat-dev/workload:dev
    imagePullPolicy: Never
    args: [sleep]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
`

const sidecarClusterRules = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: ClusterRuleSet
metadata: {name: e2e}
spec: {sources: [{name: a, inline: 'alert http any any -> any any (msg:"E2E"; http.uri; content:"/EVIL/"; sid:1000003; rev:1;)'}]}
`

// sidecarPodSecurity makes Pods at the levels baseline and restricted: the first has its engine, and the second says why it has none.
func (w *world) sidecarPodSecurity(t *testing.T, step func(string)) {
	t.Helper()
	baseline, restricted := strings.ReplaceAll(sidecarLevels, "LEVEL", "baseline"), strings.ReplaceAll(sidecarLevels, "LEVEL", "restricted")
	parts := strings.Split(baseline+restricted, "\n---\n")
	isPod := func(s string) bool { return strings.Contains(s, "kind: Pod") }
	w.Apply(t, sidecarClusterRules+"---\n"+strings.Join(slices.DeleteFunc(slices.Clone(parts), isPod), "\n---\n"))
	time.Sleep(time.Second) // the manager hears of the inspections
	w.Apply(t, strings.Join(slices.DeleteFunc(slices.Clone(parts), func(s string) bool { return !isPod(s) }), "\n---\n"))
	for _, level := range []string{"baseline", "restricted"} {
		w.Kubectl(t, "wait", "-n", level, "--for=condition=Ready", "--timeout=60s", "pod/web")
	}
	w.sidecarReady(t, "baseline")
	step("at the level baseline, a Pod is inspected")
	if got := w.Kubectl(t, "get", "pod", "-n", "restricted", "web", "-o", "jsonpath={.spec.initContainers}"); got != "" {
		t.Errorf("at the level restricted, the Pod has %s", got)
	}
	cluster.Eventually(t, 30*time.Second, "the inspection of restricted Pods says what it needs", func() error {
		got := w.Kubectl(t, "get", "trafficinspection", "-n", "restricted", "restricted", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")]}`)
		if !strings.Contains(got, `"status":"False"`) || !strings.Contains(got, `"reason":"PodSecurity"`) || !strings.Contains(got, "NET_RAW") {
			return fmt.Errorf("its condition is %s", got)
		}
		return nil
	})
	step("at the level restricted, the inspection says what it needs")
}
