package manifests

import (
	"strings"
	"testing"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/config/crd"
)

// TestEveryRuleRefuses breaks each CEL rule of the definition once, with an object that is right otherwise: what an API server
// without the webhook says.
func TestEveryRuleRefuses(t *testing.T) {
	schema, err := loadSchema(crd.L7Policy)
	if err != nil {
		t.Fatal(err)
	}
	broken := map[string]bool{}
	for _, test := range []struct{ spec, path, message string }{
		{`{}`, "spec", "the policy governs nothing"},
		{`{ingress: []}`, "spec", "an empty ingress governs nothing"},
		{`{egress: []}`, "spec", "an empty egress governs nothing"},
		{`{ingress: [{name: a}], egress: [{name: a}]}`, "spec", "an ingress and an egress rule have the same name"},
		{`{ingress: [{name: a}, {name: b}, {name: a}]}`, "spec.ingress", "two ingress rules have the same name"},
		{`{egress: [{name: a}, {}, {}, {name: a}]}`, "spec.egress", "two egress rules have the same name"},
		{`{ingress: [{l7: [{http: {}}], ports: [{port: 1}, {protocol: SCTP}]}]}`, "spec.ingress[0]", "l7 cannot look into SCTP"},
		{`{egress: [{l7: [{grpc: {}}], ports: [{protocol: UDP}]}]}`, "spec.egress[0]", "http, grpc and tls run over TCP"},
		{`{ingress: [{from: [{}]}]}`, "spec.ingress[0].from[0]", "the peer is empty: set podSelector, namespaceSelector or ipBlock;"},
		{`{ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]}`, "spec.ingress[0].from[0]", "ipBlock stands alone"},
		{`{egress: [{to: [{}]}]}`, "spec.egress[0].to[0]", "the peer is empty: set podSelector, namespaceSelector, ipBlock or service"},
		{`{egress: [{to: [{service: {name: a}, namespaceSelector: {}}]}]}`, "spec.egress[0].to[0]", "service stands alone"},
		{`{egress: [{to: [{namespaceSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]}`, "spec.egress[0].to[0]", "ipBlock stands alone"},
		{`{egress: [{to: [{service: {name: a, port: 0}}]}]}`, "spec.egress[0].to[0].service.port", "a port's number is from 1 to 65535"},
		{`{ingress: [{from: [{ipBlock: {cidr: 10.0.0.1/8}}]}]}`, "spec.ingress[0].from[0].ipBlock.cidr", "cidr must be a network"},
		{`{ingress: [{from: [{ipBlock: {cidr: "2001:db8::/129"}}]}]}`, "spec.ingress[0].from[0].ipBlock.cidr", "cidr must be a network"},
		{`{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.1]}}]}]}`, "spec.ingress[0].from[0].ipBlock.except[0]", "an except must be a network"},
		{`{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]}`, "spec.ingress[0].from[0].ipBlock", "each except must lie within cidr"},
		{`{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]}`, "spec.ingress[0].from[0].ipBlock", "each except must lie within cidr"},
		{`{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: ["2001:db8::/64"]}}]}]}`, "spec.ingress[0].from[0].ipBlock", "each except must lie within cidr"},
		{`{ingress: [{ports: [{port: 65536}]}]}`, "spec.ingress[0].ports[0].port", "a port's number is from 1 to 65535"},
		{`{ingress: [{ports: [{endPort: 80}]}]}`, "spec.ingress[0].ports[0]", "endPort needs a port that is a number"},
		{`{ingress: [{ports: [{port: http, endPort: 80}]}]}`, "spec.ingress[0].ports[0]", "endPort needs a port that is a number"},
		{`{ingress: [{ports: [{port: 90, endPort: 80}]}]}`, "spec.ingress[0].ports[0]", "endPort is below port"},
		{`{ingress: [{l7: [{}]}]}`, "spec.ingress[0].l7[0]", "an l7 entry is for exactly one protocol"},
		{`{ingress: [{l7: [{tls: {}, protocol: ssh}]}]}`, "spec.ingress[0].l7[0]", "an l7 entry is for exactly one protocol"},
		{`{ingress: [{l7: [{http: {path: {}}}]}]}`, "spec.ingress[0].l7[0].http.path", "a path is matched in exactly one way"},
		{`{ingress: [{l7: [{http: {path: {exact: /a, regex: /b}}}]}]}`, "spec.ingress[0].l7[0].http.path", "a path is matched in exactly one way"},
		{`{ingress: [{l7: [{http: {headers: [{name: a}]}}]}]}`, "spec.ingress[0].l7[0].http.headers[0]", "a header is matched in exactly one way"},
		{`{ingress: [{l7: [{http: {headers: [{name: a, present: false}]}}]}]}`, "spec.ingress[0].l7[0].http.headers[0].present", "present can only be true"},
	} {
		object := policyObject(t, test.spec)
		schema.applyDefaults(object)
		errs := schema.validate(object)
		if len(errs) != 1 || errs[0].Field != test.path || !strings.HasPrefix(errs[0].Detail, test.message) {
			t.Errorf("%s: got %v\nwant only %s: %s", test.spec, errs, test.path, test.message)
		}
		for _, err := range errs {
			broken[err.Detail] = true
		}
		o, err := Read("p.yaml", strings.NewReader(policyText("  "+strings.Trim(test.spec, "{}")+"\n")))
		if err == nil {
			t.Errorf("%s: ValidateL7Policy accepts what the schema refuses: %v", test.spec, o.L7Policies)
		}
	}
	eachRule(schema.structural, func(message string) {
		if !broken[message] {
			t.Errorf("no case breaks the rule with the message %q", message)
		}
	})
}

// policyObject is a policy with the fields of spec, besides podSelector.
func policyObject(t *testing.T, spec string) map[string]any {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte("{apiVersion: inspection.meerkat.dev/v1alpha1, kind: L7Policy, metadata: {name: p}, spec: " + spec + "}"))
	if err != nil {
		t.Fatal(err)
	}
	object := map[string]any{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &object); err != nil {
		t.Fatal(err)
	}
	object["spec"].(map[string]any)["podSelector"] = map[string]any{}
	return object
}

func eachRule(s *structuralschema.Structural, visit func(message string)) {
	for _, rule := range s.XValidations {
		visit(rule.Message)
	}
	for name := range s.Properties {
		field := s.Properties[name]
		eachRule(&field, visit)
	}
	if s.Items != nil {
		eachRule(s.Items, visit)
	}
}
