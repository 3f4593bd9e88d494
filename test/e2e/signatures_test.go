package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/test/e2e/cluster"
)

// probesRules are the signatures of the matrix: one that alerts, and one that drops.
const probesRules = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: RuleSet
metadata: {name: probes, namespace: shop}
spec:
  sources:
  - name: own
    inline: |
      alert http any any -> any any (msg:"a teapot"; flow:to_server,established; http.uri; content:"/teapot"; classtype:web-application-attack; sid:1000001; rev:1;)
      drop http any any -> any any (msg:"a veto"; flow:to_server,established; http.uri; content:"/veto"; classtype:bad-unknown; sid:1000002; rev:1;)
`

// Both ends of each connection are looked at, each at its own edge.
const inspectionsOf = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: TrafficInspection
metadata: {name: MODE-servers, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, mode: Mode, direction: Ingress, ports: [{port: http}], ruleSets: [{name: probes}]}
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: TrafficInspection
metadata: {name: MODE-clients, namespace: shop}
spec: {podSelector: {matchLabels: {role: client}}, mode: Mode, direction: Egress, ruleSets: [{name: probes}]}
`

const web6 = `
apiVersion: v1
kind: Service
metadata: {name: web6, namespace: shop}
spec: {selector: {app: web}, ipFamilies: [IPv6], ports: [{name: http, port: 80, targetPort: http}]}
`

func inspections(mode string) string {
	return strings.NewReplacer("MODE", strings.ToLower(mode), "Mode", mode).Replace(inspectionsOf)
}

// signatures has inspections look at traffic on every path, and tries what must not break it: bad rules, and a revision that drops all.
func signatures(t *testing.T, w *world) {
	w.Apply(t, probesRules)
	w.Apply(t, inspections("Detect"))
	ways, whole := w.ways(t), t
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"Detect", func(t *testing.T) { w.detect(t, ways) }},
		{"Prevent", func(t *testing.T) {
			w.Remove(t, inspections("Detect"))
			w.Apply(whole, inspections("Prevent"))
			w.prevent(t, ways)
		}},
		{"BadRule", w.badRule},
		{"Hostile", w.hostile},
		{"Canary", w.canary},
	} {
		t.Run(step.name, func(t *testing.T) {
			began := time.Now()
			step.run(t)
			t.Log("\n" + w.Kubectl(t, "get", "--all-namespaces", "trafficinspections,rulesets", "-o", "wide"))
			t.Logf("took %s", time.Since(began).Round(100*time.Millisecond))
		})
	}
}

// way is an address of the web server.
type way struct {
	name, address string
	// service is the Service that is asked; empty for the Pod itself.
	service string
}

// ways are those of IPv4, and those of IPv6 where the cluster has it.
func (w *world) ways(t *testing.T) []way {
	t.Helper()
	at := w.addresses(t)
	all := []way{{"Pod IP", at["Pod IP"], ""}, {"ClusterIP", at["ClusterIP"], "shop/web"}}
	for address := range strings.FieldsSeq(w.Kubectl(t, "get", "pod", "--namespace=shop", "web", "-o", "jsonpath={.status.podIPs[*].ip}")) {
		if !strings.Contains(address, ":") {
			continue
		}
		w.Apply(t, web6)
		service := w.Kubectl(t, "get", "service", "--namespace=shop", "web6", "-o", "jsonpath={.spec.clusterIP}")
		return append(all, way{"IPv6 Pod IP", "[" + address + "]:8080", ""}, way{"IPv6 ClusterIP", "[" + service + "]:80", "shop/web6"})
	}
	t.Log("the cluster has no IPv6: its cells are left out")
	return all
}

// inspected waits until inspections of the shop are ready.
func (w *world) inspected(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := w.Try(t.Context(), "", "wait", "--namespace=shop", "--for=condition=Ready", "--timeout=90s", "trafficinspection/"+name); err != nil {
			got, _ := w.Try(t.Context(), "", "get", "tin,mrs,nins", "--namespace=shop", "-o", "yaml")
			t.Fatalf("%v\n%s", err, got)
		}
	}
}

// detect looks at a copy: alerts name both ends, and what a signature would drop passes.
func (w *world) detect(t *testing.T, ways []way) {
	w.inspected(t, "detect-servers", "detect-clients")
	began := time.Now()
	for i, to := range ways {
		for _, client := range []string{nearClient, farClient} {
			_, name, _ := strings.Cut(client, "/")
			w.expect(t, client, to.name, to.address, yes(fmt.Sprintf("GET /teapot/detect/%s/%d", name, i)), yes(fmt.Sprintf("GET /veto/detect/%s/%d", name, i)))
		}
	}
	w.told(t, began, ways, "detect", "/teapot", 1000001, alerts.Alerted)
	w.told(t, began, ways, "detect", "/veto", 1000002, alerts.Alerted)
	cluster.Eventually(t, 90*time.Second, "the inspection counts", func() error {
		got := w.Kubectl(t, "get", "tin", "--namespace=shop", "detect-clients", "-o", "jsonpath={.status.alerts.total} {.status.lastSignatures[*].sid}")
		if !strings.Contains(got, "100000") {
			return fmt.Errorf("alerts and signatures are %q", got)
		}
		return nil
	})
}

// prevent is inline: what a signature drops does not come through, and everything else does.
func (w *world) prevent(t *testing.T, ways []way) {
	w.inspected(t, "prevent-servers", "prevent-clients")
	began := time.Now()
	for i, to := range ways {
		for _, client := range []string{nearClient, farClient} {
			_, name, _ := strings.Cut(client, "/")
			w.expect(t, client, to.name, to.address, yes(fmt.Sprintf("GET /teapot/prevent/%s/%d", name, i)), yes("POST /anything"),
				no(fmt.Sprintf("GET /veto/prevent/%s/%d", name, i)), yes("GET /after"))
		}
	}
	w.told(t, began, ways, "prevent", "/teapot", 1000001, alerts.Alerted)
	w.toldOnce(t, began, ways)
	if n := w.reached(t, "/veto/prevent/"); n != 0 {
		t.Errorf("%d requests reached the server that a signature drops", n)
	}
}

// alertsSince are the alerts that the nodes' agents have told of, by the request's path.
func (w *world) alertsSince(t *testing.T, began time.Time) map[string][]alerts.Event {
	t.Helper()
	all := map[string][]alerts.Event{}
	out := w.Kubectl(t, "logs", "--namespace=meerkat-system", "--selector=app.kubernetes.io/component=node", "--container=agent", "--tail=-1",
		"--since-time="+began.UTC().Format(time.RFC3339))
	for line := range strings.Lines(out) {
		var e struct {
			Kind string `json:"kind"`
			alerts.Event
		}
		if json.Unmarshal([]byte(line), &e) != nil || e.Kind != "alert" {
			continue
		}
		var http struct {
			URL string `json:"url"`
		}
		_ = json.Unmarshal(e.Detail["http"], &http)
		all[http.URL] = append(all[http.URL], e.Event)
	}
	return all
}

// told waits until both edges of each connection have told of its request, and checks whom they name.
func (w *world) told(t *testing.T, began time.Time, ways []way, mode, path string, sid uint32, action alerts.Action) {
	t.Helper()
	cluster.Eventually(t, 20*time.Second, "alerts name both ends", func() error {
		found := w.alertsSince(t, began)
		var wrong []string
		for i, to := range ways {
			for client, node := range map[string]string{nearClient: w.near, farClient: w.far} {
				_, name, _ := strings.Cut(client, "/")
				url := fmt.Sprintf("%s/%s/%s/%d", path, mode, name, i)
				for _, edge := range []struct {
					node, inspection string
					direction        plan.Direction
				}{{node, "shop/" + mode + "-clients", plan.Egress}, {w.near, "shop/" + mode + "-servers", plan.Ingress}} {
					is := func(e alerts.Event) bool {
						service := ""
						if e.Destination.Service != nil {
							service = e.Destination.Service.Name
						}
						named := service == to.service
						if edge.direction == plan.Ingress { // where kube-proxy or the client's edge has translated the address before
							named = to.service == "" || service == to.service || slices.Contains(e.Destination.EndpointOf, to.service)
						}
						return e.Node == edge.node && slices.Equal(e.Inspections, []string{edge.inspection}) && e.Direction == edge.direction &&
							e.Signature.SID == sid && e.Action == action && e.Source.Name == client && e.Destination.Name == web && named &&
							len(e.RuleSets) == 1 && e.RuleSets[0].Name == "shop/probes"
					}
					if !slices.ContainsFunc(found[url], is) {
						text, _ := json.Marshal(found[url])
						wrong = append(wrong, fmt.Sprintf("%s by %s: none at the %s edge on %s among %s", url, to.name, edge.direction, edge.node, text))
					}
				}
			}
		}
		if len(wrong) > 0 {
			return fmt.Errorf("%d are missing, such as %s", len(wrong), wrong[0])
		}
		return nil
	})
}

// toldOnce checks that a request which the client's edge drops is told of there, and nowhere else.
func (w *world) toldOnce(t *testing.T, began time.Time, ways []way) {
	t.Helper()
	cluster.Eventually(t, 20*time.Second, "drops are told", func() error {
		found := w.alertsSince(t, began)
		for i, to := range ways {
			for _, client := range []string{nearClient, farClient} {
				_, name, _ := strings.Cut(client, "/")
				url := fmt.Sprintf("/veto/prevent/%s/%d", name, i)
				if len(found[url]) == 0 {
					return fmt.Errorf("%s by %s: no alert", url, to.name)
				}
				for _, e := range found[url] {
					if e.Action != alerts.Dropped || e.Source.Name != client || e.Destination.Name != web || e.Direction != plan.Egress || e.Signature.SID != 1000002 {
						text, _ := json.Marshal(e)
						t.Fatalf("%s by %s: an alert says %s", url, to.name, text)
					}
				}
			}
		}
		return nil
	})
}

// status reads the status of the RuleSet probes, or another of the shop.
func (w *world) ruleSet(t *testing.T, name string) v1alpha1.RuleSetStatus {
	t.Helper()
	var set v1alpha1.RuleSet
	if err := json.Unmarshal([]byte(w.Kubectl(t, "get", "ruleset", "--namespace=shop", name, "-o", "json")), &set); err != nil {
		t.Fatal(err)
	}
	return set.Status
}

// onNodes is what nodes report of a rule set, by node.
func (w *world) onNodes(t *testing.T, name string) map[string]v1alpha1.NodeRuleSet {
	t.Helper()
	var all v1alpha1.NodeInspectionList
	if err := json.Unmarshal([]byte(w.Kubectl(t, "get", "nodeinspections", "-o", "json")), &all); err != nil {
		t.Fatal(err)
	}
	found := map[string]v1alpha1.NodeRuleSet{}
	for _, n := range all.Items {
		for _, r := range n.Status.RuleSets {
			if r.Name == name {
				found[n.Name] = r
			}
		}
	}
	return found
}

// teapot sends a request that a signature matches, and waits for its alert.
func (w *world) teapot(t *testing.T, path string) {
	t.Helper()
	began := time.Now()
	w.expect(t, farClient, "Pod IP", w.addresses(t)["Pod IP"], yes("GET /teapot/"+path))
	cluster.Eventually(t, 20*time.Second, "an alert is told", func() error {
		if len(w.alertsSince(t, began)["/teapot/"+path]) == 0 {
			return fmt.Errorf("there is none for %s", path)
		}
		return nil
	})
}
