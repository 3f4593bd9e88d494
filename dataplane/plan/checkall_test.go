package plan_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Check finds what Compile finds for all nodes.
func TestCheckFindsWhatCompileFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t)
		got := plan.Check(*s)
		s.Node = ""
		_, want := plan.Compile(*s)
		for i := range got.Policies {
			p := &got.Policies[i]
			var nodes []string
			for _, pod := range s.Pods {
				one := *s
				one.Node = pod.Spec.NodeName
				_, f := plan.Compile(one)
				if f.For(p.Policy).LocalPods > 0 {
					nodes = append(nodes, one.Node)
				}
			}
			slices.Sort(nodes)
			if diff := cmp.Diff(slices.Compact(nodes), p.Nodes); diff != "" {
				t.Fatalf("nodes of %s (-want +got):\n%s", p.Policy, diff)
			}
			p.Nodes = nil
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("Compile and Check differ (-Compile +Check):\n%s", diff)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	s := largeCluster(5)
	b.ReportAllocs()
	for b.Loop() {

		if f := plan.Check(s); len(f.Policies) != 500 {
			b.Fatalf("%d policies", len(f.Policies))
		}
	}
}
