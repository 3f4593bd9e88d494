package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// badRules are what package signatures takes for rules, and the engine does not.
const badRules = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: RuleSet
metadata: {name: own, namespace: shop}
spec:
  sources:
  - name: local
    inline: |
      alert http any any -> any any (msg:"good"; http.uri; content:"/other"; sid:1; rev:1;)
      alert http any any -> any any (msg:"bad"; nosuchkeyword:1; sid:2; rev:1;)
`

const stillAlerts = `
apiVersion: lab.meerkat.dev/v1alpha1
kind: Scenario
metadata: {name: last good rules}
steps:
- probe: {from: shop/client, to: service/shop/web:80, http: {path: /etc/passwd}, expect: allow}
  alerts: [{sid: 1000001, ruleSet: shop/own}]
- probe: {from: shop/client, to: service/shop/web:80, http: {path: /other}, expect: allow}
  alerts: []
`

// TestSignaturesThatDoNotLoad changes a rule set to one that the engine refuses: it is told which rule, and why, and the rules before
// stay in force. The next ones that load take their place.
func TestSignaturesThatDoNotLoad(t *testing.T) {
	t.Parallel()
	l := testlab.Start(t, labs.Options(t), "../scenarios/detect/objects.yaml")
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte(badRules), 0o600); err != nil {
		t.Fatal(err)
	}
	objects, err := manifests.Load(bad)
	if err != nil {
		t.Fatal(err)
	}
	err = l.Apply(t.Context(), objects)
	if err == nil || !strings.Contains(err.Error(), "sid 2") || !strings.Contains(err.Error(), "nosuchkeyword") {
		t.Errorf("the error is %v: it must name the rule and the reason", err)
	}
	s, err := scenario.Parse([]byte(stillAlerts), "scenario.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"after rules that do not load", "after a Sync that tries again"} {
		if report := scenario.Run(t.Context(), s, l.World(), scenario.Options{}); !report.Passed() {
			t.Errorf("%s: %+v", when, report.Rows)
		}
		if err := l.Apply(t.Context(), &manifests.Objects{}); err == nil {
			t.Error("a Sync with rules that do not load succeeded")
		}
	}
	good, err := manifests.Load("../scenarios/detect/objects.yaml")
	if err != nil {
		t.Fatal(err)
	}
	good.RuleSets[0].Spec.Sources[0].Inline = `alert http any any -> any any (msg:"good"; http.uri; content:"/other"; sid:1000001; rev:1;)`
	good.Pods, good.Services = nil, nil
	if err := l.Apply(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	status := l.Status().Nodes[0].Signatures
	if len(status) != 1 || status[0].Engine != "inspects" || status[0].Rules != 1 {
		t.Errorf("the engine is %+v, and should have one rule", status)
	}
}
