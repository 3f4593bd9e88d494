package reach_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/reach"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

const objects = `
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, image: x, ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}]}]}
status: {podIPs: [{ip: 10.244.1.10}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {role: client}}
spec: {containers: [{name: client, image: x}]}
status: {podIPs: [{ip: 10.244.1.11}]}
---
apiVersion: v1
kind: Pod
metadata: {name: on-the-node, namespace: shop, labels: {role: client}}
spec: {hostNetwork: true, containers: [{name: x, image: x}]}
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: L7Policy
metadata: {name: in, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - name: partners
    from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}]
    ports: [{port: 8080}]
  - name: pages
    ports: [{port: http}]
    l7: [{http: {methods: [GET]}}]
  - name: names
    from: [{podSelector: {matchLabels: {role: client}}}]
    ports: [{port: dns, protocol: UDP}]
    l7: [{dns: {names: ["*.example"]}}]
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: L7Policy
metadata: {name: out, namespace: shop}
spec:
  podSelector: {matchLabels: {role: client}}
  mode: Audit
  egress: [{name: nothing-but-7, ports: [{port: 8080}], l7: [{http: {path: {exact: /7}}}]}]
`

func ask(t *testing.T, q reach.Question) (*reach.Answer, error) {
	t.Helper()
	read, err := manifests.Read("objects.yaml", strings.NewReader(objects))
	if err != nil {
		t.Fatal(err)
	}
	s, err := lab.Snapshot(read)
	if err != nil {
		t.Fatal(err)
	}
	return reach.WhoCan(s, q)
}

func TestWhoCan(t *testing.T) {
	get, err := reach.HTTPRequest("GET /a", "", "1", nil)
	if err != nil {
		t.Fatal(err)
	}
	post, err := reach.HTTPRequest("POST /a", "", "2", nil)
	if err != nil {
		t.Fatal(err)
	}
	web := types.NamespacedName{Namespace: "shop", Name: "web"}
	for name, c := range map[string]struct {
		question reach.Question
		want     []string
	}{
		"a GET": {reach.Question{Pod: web, Port: intstr.FromString("http"), Request: get}, []string{
			"shop/client audited egress, shop/out: nothing-but-7: path /a is not /7; ingress, shop/in: allowed by the rule pages",
			"192.0.2.128/25 yes ingress, shop/in: allowed by the rule pages",
			"192.0.2.0/24 yes ingress, shop/in: allowed, whatever is sent",
			"0.0.0.0/0 yes ingress, shop/in: allowed by the rule pages",
		}},
		"a POST": {reach.Question{Pod: web, Port: intstr.FromInt(8080), Request: post}, []string{
			"shop/client no egress, shop/out: nothing-but-7: path /a is not /7; ingress, shop/in: pages: method POST is not GET",
			"192.0.2.128/25 no ingress, shop/in: pages: method POST is not GET",
			"192.0.2.0/24 yes ingress, shop/in: allowed, whatever is sent",
			"0.0.0.0/0 no ingress, shop/in: pages: method POST is not GET",
		}},
		"anything": {reach.Question{Pod: web, Port: intstr.FromInt(8080)}, []string{
			"shop/client depends egress, shop/out: by request: nothing-but-7; ingress, shop/in: by request: pages",
			"192.0.2.128/25 depends ingress, shop/in: by request: pages",
			"192.0.2.0/24 yes ingress, shop/in: allowed, whatever is sent",
			"0.0.0.0/0 depends ingress, shop/in: by request: pages",
		}},
		"a name": {reach.Question{Pod: web, Protocol: plan.UDP, Port: intstr.FromString("dns"), Request: &l7.Request{Protocol: "dns", Name: "a.example"}}, []string{
			"shop/client yes ingress, shop/in: allowed by the rule names",
			"0.0.0.0/0 no ingress, shop/in: no rule is for this peer and port",
		}},
		"a port that nobody names": {reach.Question{Pod: web, Port: intstr.FromInt(22)}, []string{"shop/client yes ", "0.0.0.0/0 yes "}},
	} {
		a, err := ask(t, c.question)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, s := range a.Senders {
			if strings.Contains(s.Block, ":") { // the Pod has no IPv6 address
				continue
			}
			got = append(got, s.Pod+s.Block+" "+string(s.May)+" "+strings.Join(s.Why, "; "))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

func TestBadQuestions(t *testing.T) {
	for _, c := range []struct {
		pod  string
		port intstr.IntOrString
		want string
	}{
		{"web", intstr.FromString("htp"), "it names http (8080)"},
		{"web", intstr.FromInt(70000), "from 1 to 65535"},
		{"wep", intstr.FromInt(80), "no Pod shop/wep"},
		{"on-the-node", intstr.FromInt(80), "its node's network"},
	} {
		_, err := ask(t, reach.Question{Pod: types.NamespacedName{Namespace: "shop", Name: c.pod}, Port: c.port})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the error is %v; it must say %q", c.pod, err, c.want)
		}
	}
	for _, line := range []string{"", "GET", "GET public"} {
		if _, err := reach.HTTPRequest(line, "", "1", nil); err == nil {
			t.Errorf("%q is a request", line)
		}
	}
	if _, err := reach.HTTPRequest("GET /", "", "3", []string{"no header"}); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("the error is %v", err)
	}
}
