package integration

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
)

// explained looks at what is said of the storefront policy, in a lab in which requests of its Pod were allowed and denied.
func explained(t *testing.T, l *lab.Lab) {
	t.Helper()
	e, err := l.ExplainPolicy(t.Context(), types.NamespacedName{Namespace: "shop", Name: "storefront"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(e.Pods, []string{"shop/web on node-1"}) || e.Denied == 0 || len(e.Nodes) != 1 {
		t.Fatalf("%+v", e)
	}
	n := e.Nodes[0]
	if !slices.Equal(n.Pods, []string{"shop/web (ingress)"}) || len(n.Refused) != 0 || len(n.RuleSets) == 0 {
		t.Errorf("%+v", n)
	}
	for _, set := range n.RuleSets {
		if len(set.Rules) < 5 || len(set.Entries) == 0 || set.ID == 0 {
			t.Errorf("a rule set: %+v", set)
		}
	}
	judged := map[string]uint64{}
	for _, f := range n.Flows {
		verdict, _, _ := strings.Cut(f.What, " ")
		if f.What == "" {
			t.Errorf("a flow without an explanation: %+v", f)
		}
		if f.Table == "PortVerdict" {
			judged[verdict] += f.Packets
		}
	}
	if judged["Inspect"] == 0 || judged["Deny"] == 0 {
		t.Errorf("connections that were judged: %v", judged)
	}
	if _, err := l.ExplainPolicy(t.Context(), types.NamespacedName{Namespace: "shop", Name: "nothing"}); err == nil {
		t.Error("a policy that is not there is explained")
	}
}
