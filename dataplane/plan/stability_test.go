package plan_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// compileChanged compiles the snapshot of pod-ip-ingress as it is, and after a change.
func compileChanged(t *testing.T, change func(*plan.Snapshot)) (before, after *plan.NodePlan) {
	t.Helper()
	before, _ = plan.Compile(*readSnapshot(t, "testdata/pod-ip-ingress.in.yaml"))
	s := readSnapshot(t, "testdata/pod-ip-ingress.in.yaml")
	change(s)
	after, _ = plan.Compile(*s)
	return before, after
}

func TestAllowListChangesTakeHoldOnOpenConnections(t *testing.T) {
	before, after := compileChanged(t, func(s *plan.Snapshot) {
		s.L7Policies[0].Spec.Ingress[0].L7[0].HTTP.Methods = []string{"PATCH"}
	})
	if diff := cmp.Diff(before.Groups, after.Groups, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("the group changed with an allow-list, so that flows change too (-before +after):\n%s", diff)
	}
	for i := range before.RuleSets {
		if before.RuleSets[i].Key != after.RuleSets[i].Key {
			t.Error("the rule set's key changed with its content, so that open connections keep the old content")
		}
	}
	if cmp.Equal(before.RuleSets, after.RuleSets) {
		t.Error("the change is not in the plan")
	}
}

func TestPeersChangeTheEpochAndNothingElse(t *testing.T) {
	before, after := compileChanged(t, func(s *plan.Snapshot) {
		p := s.Pods[3].DeepCopy()
		p.Name, p.Status.PodIPs = "client-2", []corev1.PodIP{{IP: "10.0.2.2"}}
		s.Pods = append(s.Pods, *p)
	})
	if before.Groups[0].Key != after.Groups[0].Key {
		t.Error("the group's key changed with a peer")
	}
	if before.Groups[0].Epoch == after.Groups[0].Epoch {
		t.Error("the epoch did not change with a peer, so that open connections are not judged anew")
	}
	if diff := cmp.Diff(before.RuleSets, after.RuleSets); diff != "" {
		t.Errorf("rule sets changed with a peer (-before +after):\n%s", diff)
	}
}

func TestRulesOfOneNameAreKeptApart(t *testing.T) {
	_, after := compileChanged(t, func(s *plan.Snapshot) {
		s.L7Policies[0].Spec.Ingress[1].Name = s.L7Policies[0].Spec.Ingress[0].Name
	})
	if len(after.RuleSets) != 2 {
		t.Errorf("two rules of one name became %d rule sets", len(after.RuleSets))
	}
}

func TestTheNodeItselfIsNotGoverned(t *testing.T) {
	p, _ := plan.Compile(*readSnapshot(t, "testdata/pod-ip-ingress.in.yaml"))
	group := p.Edges[0].Ingress
	for peer, want := range map[string]bool{"10.0.1.254": false, "192.0.2.10": false, "::ffff:192.0.2.10": false, "192.0.2.11": true} {
		if _, governed := p.Judge(group, netip.MustParseAddr(peer), plan.TCP, 8080); governed != want {
			t.Errorf("governed from %s: %v", peer, governed)
		}
	}
	if _, governed := p.Judge("no such group", netip.MustParseAddr("192.0.2.11"), plan.TCP, 8080); governed {
		t.Error("a group that does not exist governs")
	}
}

func TestWithoutANodeEveryPodIsPlannedFor(t *testing.T) {
	_, after := compileChanged(t, func(s *plan.Snapshot) { s.Node = "" })
	var pods []string
	for _, e := range after.Edges {
		pods = append(pods, e.Pod.Name)
	}
	if diff := cmp.Diff([]string{"web-1", "web-2"}, pods); diff != "" {
		t.Errorf("edges (-want +got):\n%s", diff)
	}
}

func TestFindingsFor(t *testing.T) {
	_, f := plan.Compile(plan.Snapshot{L7Policies: []v1alpha1.L7Policy{{}}})
	if f.For(types.NamespacedName{}) == nil || f.For(types.NamespacedName{Name: "other"}) != nil {
		t.Errorf("the findings are %+v", f)
	}
}
