package conformance

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/dataplane/manifests"
)

// TestEveryFieldOfANetworkPolicy writes NetworkPolicies as L7Policies, field by field.
func TestEveryFieldOfANetworkPolicy(t *testing.T) {
	for _, c := range []struct{ name, spec, want string }{
		{
			"every field", `
podSelector: {matchLabels: {app: web}, matchExpressions: [{key: tier, operator: In, values: [front]}]}
policyTypes: [Ingress, Egress]
ingress:
- from:
  - podSelector: {matchLabels: {role: client}}
  - namespaceSelector: {}
  - namespaceSelector: {matchLabels: {team: a}}
    podSelector: {}
  ports: [{port: 80}, {port: http, protocol: TCP}, {port: 53, protocol: UDP}, {protocol: SCTP}, {port: 8000, endPort: 8099}]
egress:
- to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.0.0/16]}}, {ipBlock: {cidr: "2001:db8::/32"}}]
- ports: [{port: 443}]
- {}
`, `
podSelector: {matchLabels: {app: web}, matchExpressions: [{key: tier, operator: In, values: [front]}]}
scope: AllPorts
ingress:
- from:
  - podSelector: {matchLabels: {role: client}}
  - namespaceSelector: {}
  - namespaceSelector: {matchLabels: {team: a}}
    podSelector: {}
  ports: [{port: 80}, {port: http, protocol: TCP}, {port: 53, protocol: UDP}, {protocol: SCTP}, {port: 8000, endPort: 8099}]
egress:
- to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.0.0/16]}}, {ipBlock: {cidr: "2001:db8::/32"}}]
- ports: [{port: 443}]
- {}
`,
		},
		{"no rules: all ingress is denied", `{podSelector: {}, policyTypes: [Ingress]}`, `{podSelector: {}, scope: AllPorts, ingress: []}`},
		{"empty lists of peers and ports: everybody, every port", `{podSelector: {}, ingress: [{from: [], ports: []}]}`, `{podSelector: {}, scope: AllPorts, ingress: [{}]}`},
		{"an empty except", `{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: []}}]}]}`, `{podSelector: {}, scope: AllPorts, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}`},
		{"without policyTypes: ingress", `{podSelector: {}}`, `{podSelector: {}, scope: AllPorts, ingress: []}`},
		{"without policyTypes, with egress: both", `{podSelector: {}, egress: [{}]}`, `{podSelector: {}, scope: AllPorts, ingress: [], egress: [{}]}`},
		{"egress alone", `{podSelector: {}, policyTypes: [Egress], egress: []}`, `{podSelector: {}, scope: AllPorts, egress: []}`},
		{"rules of a direction that policyTypes does not name", `{podSelector: {}, policyTypes: [Egress], ingress: [{}]}`, `{podSelector: {}, scope: AllPorts, egress: []}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			np := &networkingv1.NetworkPolicy{}
			np.Namespace, np.Name = "x", "base"
			if err := yaml.UnmarshalStrict([]byte(c.spec), &np.Spec); err != nil {
				t.Fatal(err)
			}
			p := l7Policy(np)
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(p)
			if err != nil {
				t.Fatal(err)
			}
			var want map[string]any
			if err := yaml.Unmarshal([]byte(c.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(asYAML(t, want), asYAML(t, content["spec"])); diff != "" {
				t.Error(diff)
			}
			o := objects{}
			if err := o.withL7Policies(p); err != nil {
				t.Fatal(err)
			}
			if _, err := manifests.Read("policy.yaml", bytes.NewBufferString(o["L7Policy x/base"])); err != nil {
				t.Errorf("the API server would refuse it: %v", err)
			}
		})
	}
}

func asYAML(t *testing.T, v any) string {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
