package integration

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/reach"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// TestWhoCan sends what it asks about, from every Pod to every server: the answer must be what happens.
func TestWhoCan(t *testing.T) {
	t.Parallel()
	files := []string{storefront + "objects.yaml", storefront + "policy.yaml", "testdata/whocan.yaml"}
	objects, err := manifests.Load(files...)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := lab.Snapshot(objects)
	if err != nil {
		t.Fatal(err)
	}
	const head = "apiVersion: lab.meerkat.dev/v1alpha1\nkind: Scenario\nmetadata: {name: who can}\nsteps:\n"
	var steps strings.Builder
	said := map[reach.May]int{}
	for _, server := range []string{"web", "reports"} {
		for _, line := range []string{"GET /public/a", "GET /private", "HEAD /public/b", "DELETE /admin"} {
			request, err := reach.HTTPRequest(line, "", "1", []string{"X-Token: 42"})
			if err != nil {
				t.Fatal(err)
			}
			a, err := reach.WhoCan(snapshot, reach.Question{
				Pod: types.NamespacedName{Namespace: "shop", Name: server}, Port: intstr.FromString("http"), Request: request,
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range a.Senders {
				if s.Pod == "" {
					continue
				}
				said[s.May]++
				expect := map[reach.May]string{reach.Yes: "allow", reach.Audited: "audit", reach.No: "deny"}[s.May]
				fmt.Fprintf(&steps, "- probe: {from: %s, to: pod/shop/%s:8080, http: {method: %s, path: %s, headers: {X-Token: \"42\"}}, expect: %s}\n",
					s.Pod, server, request.Method, request.Target, expect)
			}
		}
	}
	if len(said) != 3 {
		t.Fatalf("the answers are of %d kinds, not three: %v", len(said), said)
	}
	s, err := scenario.Parse([]byte(head+steps.String()), "scenario.yaml")
	if err != nil {
		t.Fatal(err)
	}
	l := testlab.Start(t, labs.Options(t), files...)
	report := scenario.Run(t.Context(), s, l.World(), scenario.Options{})
	for _, row := range report.Rows {
		if !row.Passed {
			t.Errorf("%+v", row)
		}
	}
	t.Logf("%d questions: %v", len(report.Rows), said)
	explained(t, l)
}
