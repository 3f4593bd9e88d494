package webhook_test

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/webhook"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

const objects = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web}}
spec: {nodeName: n1, containers: [{name: web, image: web, ports: [{name: http, containerPort: 8080}]}]}
status: {podIP: 10.0.0.1, phase: Running}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, clusterIP: 10.96.0.5, ports: [{name: web, port: 80, targetPort: 8080}]}
`

// world reads objects; those that policies need are in it already.
func world(t *testing.T, more ...string) plan.Snapshot {
	t.Helper()
	o, err := manifests.Read("objects.yaml", strings.NewReader(objects+"\n---\n"+strings.Join(more, "\n---\n")))
	if err != nil {
		t.Fatal(err)
	}
	return plan.Snapshot{Namespaces: o.Namespaces, Pods: o.Pods, Services: o.Services, EndpointSlices: o.EndpointSlices, L7Policies: o.L7Policies}
}

func policyYAML(name, spec string) string {
	return fmt.Sprintf("apiVersion: inspection.meerkat.dev/v1alpha1\nkind: L7Policy\nmetadata: {name: %s, namespace: shop}\nspec: %s\n", name, spec)
}

func policy(t *testing.T, name, spec string) *v1alpha1.L7Policy {
	t.Helper()
	s := world(t, policyYAML(name, spec))
	return &s.L7Policies[0]
}

func TestWarnings(t *testing.T) {
	const web = `podSelector: {matchLabels: {app: web}}`
	for name, test := range map[string]struct {
		spec  string
		among []string
		want  []string // beginnings, each of one warning
	}{
		"nothing to say": {spec: `{` + web + `, ingress: [{ports: [{port: http}]}]}`},
		"selects nobody": {
			spec: `{podSelector: {matchLabels: {app: later}}, ingress: [{ports: [{port: http}]}]}`,
			want: []string{"spec.podSelector selects no Pod at present"},
		},
		"a Service that does not exist yet": {
			spec: `{` + web + `, egress: [{to: [{service: {name: payments, port: https}}]}]}`,
			want: []string{"spec.egress[0].to[0].service"},
		},
		"the Service's port": {
			spec: `{` + web + `, ingress: [{ports: [{port: 80}]}]}`,
			want: []string{"spec.ingress[0].ports[0].port is 80, which is a port of the Service shop/web, while its Pods listen on 8080."},
		},
		"shadowed by its own rule": {
			spec: `{` + web + `, ingress: [{ports: [{port: http}], l7: [{http: {}}]}, {name: open, ports: [{port: http}]}]}`,
			want: []string{"spec.ingress[0] has no effect"},
		},
		"shadows another policy's rule": {
			spec:  `{` + web + `, ingress: [{name: open, ports: [{port: http}]}]}`,
			among: []string{policyYAML("strict", `{`+web+`, ingress: [{ports: [{port: http}], l7: [{http: {}}]}]}`)},
			want:  []string{"the policy shop/strict is affected: spec.ingress[0] has no effect"},
		},
		"does not repeat what was so before": {
			spec: `{` + web + `, ingress: [{name: other, ports: [{port: 9090}]}]}`,
			among: []string{
				policyYAML("strict", `{`+web+`, ingress: [{ports: [{port: http}], l7: [{http: {}}]}]}`),
				policyYAML("open", `{`+web+`, ingress: [{ports: [{port: http}]}]}`),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := policy(t, "new", test.spec)
			if errs := webhook.Faults(p); len(errs) > 0 {
				t.Fatal(errs)
			}
			errs, warnings := webhook.FaultsAmong(world(t, test.among...), p)
			if len(errs) > 0 {
				t.Fatalf("refused: %v", errs)
			}
			if len(warnings) != len(test.want) {
				t.Fatalf("got %q, want %q", warnings, test.want)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(warnings[i], want) {
					t.Errorf("warning %d is %q, want %q…", i, warnings[i], want)
				}
			}
		})
	}
}

// TestBudgets asks for what the schema and the checks of one policy allow, and the rule compiler does not.
func TestBudgets(t *testing.T) {
	long := strings.Repeat("a", 1500)
	names := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("%q", fmt.Sprintf("%s%d.%s.%s.example", strings.Repeat("n", 50), i, strings.Repeat("m", 60), strings.Repeat("o", 60))))
		}
		return strings.Join(all, ", ")
	}
	var headers []string
	for i := range 16 {
		headers = append(headers, fmt.Sprintf("{name: X-%d, exact: %s}", i, long[:500]))
	}
	const web = `podSelector: {matchLabels: {app: web}}`
	dns := `{dns: {names: [` + names(30) + `]}}`
	for name, test := range map[string]struct {
		spec  string
		among []string
		want  string
	}{
		"one entry": {
			spec: `{` + web + `, ingress: [{ports: [{port: http}], l7: [{tls: {}}, {http: {headers: [` + strings.Join(headers, ", ") + `]}}]}]}`,
			want: "spec.ingress[0].l7[1]: Invalid value: http: the conditions make a rule of ",
		},
		"entries together": {
			spec: `{` + web + `, egress: [{ports: [{port: 53, protocol: UDP}], l7: [` + dns + `, ` + dns + `]}]}`,
			want: "spec.egress[0].l7: Invalid value: dns: the names of all entries make a rule of ",
		},
		"rules together": {
			spec: `{` + web + `, egress: [{ports: [{port: 53, protocol: UDP}], l7: [` + dns + `]}, {name: more, ports: [{port: 53, protocol: UDP}], l7: [` + strings.ReplaceAll(dns, "mmm", "mmx") + `]}]}`,
			want: "spec: Invalid value: policy shop/new, rule ",
		},
		"rules together, before there are Pods": {
			spec: `{podSelector: {matchExpressions: [{key: app, operator: In, values: [later]}, {key: x, operator: DoesNotExist}]}, ingress: [{ports: [{port: dns, protocol: UDP}], l7: [` + dns + `]}, {name: more, ports: [{port: dns, protocol: UDP}], l7: [` + strings.ReplaceAll(dns, "mmm", "mmx") + `]}]}`,
			want: "spec: Invalid value: policy shop/new, rule ",
		},
		"policies together": {
			spec:  `{` + web + `, egress: [{ports: [{port: 53, protocol: UDP}], l7: [` + dns + `]}]}`,
			among: []string{policyYAML("other", `{`+web+`, egress: [{ports: [{port: 53, protocol: UDP}], l7: [`+strings.ReplaceAll(dns, "mmm", "mmx")+`]}]}`)},
			want:  "spec: Invalid value: policy shop/",
		},
		"others together, which is not this one's fault": {
			spec: `{` + web + `, egress: [{ports: [{port: 53, protocol: UDP}], l7: [{dns: {names: [a.example]}}]}]}`,
			among: []string{
				policyYAML("a", `{`+web+`, egress: [{ports: [{port: 53, protocol: UDP}], l7: [`+dns+`]}]}`),
				policyYAML("b", `{`+web+`, egress: [{ports: [{port: 53, protocol: UDP}], l7: [`+strings.ReplaceAll(dns, "mmm", "mmx")+`]}]}`),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := policy(t, "new", test.spec)
			errs := webhook.Faults(p)
			if len(errs) == 0 {
				errs, _ = webhook.FaultsAmong(world(t, test.among...), p)
			}
			switch {
			case test.want == "" && len(errs) > 0:
				t.Errorf("refused: %.300v", errs)
			case test.want != "" && (len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), test.want)):
				t.Errorf("got %.300v, want %s…", errs, test.want)
			}
		})
	}
}

// TestStoredPoliciesAreNotHeldUp changes what is beside the spec of a policy that is wrong by now.
func TestStoredPoliciesAreNotHeldUp(t *testing.T) {
	stored := policy(t, "old", `{podSelector: {}, ingress: [{ports: [{port: 80}]}]}`)
	stored.Spec.Ingress[0].Name = "Not A Name"
	changed := stored.DeepCopy()
	changed.Labels = map[string]string{"owner": "somebody"}
	v := &webhook.Validator{}
	if _, err := v.ValidateUpdate(t.Context(), stored, changed); err != nil {
		t.Errorf("a label was refused: %v", err)
	}
	if _, err := v.ValidateDelete(t.Context(), stored); err != nil {
		t.Errorf("the deletion was refused: %v", err)
	}
	changed.Spec.Mode = v1alpha1.ModeAudit
	if _, err := v.ValidateUpdate(t.Context(), stored, changed); err == nil {
		t.Error("a change of the spec passes that leaves a fault")
	}
	changed.DeletionTimestamp = new(metav1.Now())
	if _, err := v.ValidateUpdate(t.Context(), stored, changed); err != nil {
		t.Errorf("the change of a policy that is being deleted was refused: %v", err)
	}
}
