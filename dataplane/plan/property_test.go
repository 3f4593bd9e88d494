package plan_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Every connection is judged by the plan as the API objects say.
func TestPlanJudgesAsTheObjectsSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t)
		p, _ := plan.Compile(*s)
		checkForm(t, p)
		for i := range s.Pods {
			checkPod(t, s, p, &s.Pods[i])
		}
	})
}

func checkPod(t *rapid.T, s *plan.Snapshot, p *plan.NodePlan, pod *corev1.Pod) {
	var edge plan.Edge
	if i := slices.IndexFunc(p.Edges, func(e plan.Edge) bool { return e.Pod.Name == pod.Name }); i >= 0 {
		edge = p.Edges[i]
	}
	if pod.Spec.NodeName != s.Node {
		if edge.Pod.Name != "" {
			t.Fatalf("%s is an edge, but on another node", pod.Name)
		}
		return
	}
	for _, c := range connectionsOf(pod) {
		group := edge.Ingress
		if c.direction == plan.Egress {
			group = edge.Egress
		}
		want := naive{s}.judge(c)
		if got := planned(p, group, c); !equal(got, want) {
			t.Fatalf("%s %s, peer %s, %s %d:\n plan  %+v\n naive %+v", pod.Name, c.direction, c.peer, c.protocol, c.port, got, want)
		}
	}
}

func connectionsOf(pod *corev1.Pod) []connection {
	var all []connection
	peers := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	for i := range 11 {
		peers = append(peers, netip.MustParseAddr(fmt.Sprint("10.0.0.", i)))
		if i < 9 {
			peers = append(peers, netip.MustParseAddr(fmt.Sprint("fd00::", i)))
		}
	}
	for _, direction := range []plan.Direction{plan.Ingress, plan.Egress} {
		for _, peer := range peers {
			for _, protocol := range []plan.Protocol{plan.TCP, plan.UDP, plan.SCTP} {
				for _, port := range []uint16{0, 79, 80, 81, 82, 83, 90, 91, 65535} {
					all = append(all, connection{pod, direction, peer, protocol, port})
				}
			}
		}
	}
	return all
}

// planned puts the plan's answer into the naive judge's form.
func planned(p *plan.NodePlan, group string, c connection) answer {
	v, governed := p.Judge(group, c.peer, c.protocol, c.port)
	a := answer{governed: governed, verdict: v.Verdict, failOpen: v.FailOpen, reset: v.Reset, policies: v.Policies}
	if set := p.RuleSet(v.RuleSet); set != nil {
		a.audit, a.reset = set.Audit, set.Reset
		for _, e := range set.Entries {
			a.rules = append(a.rules, e.Policy+" "+e.Rule)
		}
	}
	return a
}

// equal compares what each verdict speaks of.
func equal(got, want answer) bool {
	if !got.governed || !want.governed {
		return got.governed == want.governed
	}
	same := got.verdict == want.verdict && slices.Equal(got.policies, want.policies)
	switch want.verdict {
	case plan.Deny:
		return same && got.reset == want.reset
	case plan.Inspect:
		return same && got.audit == want.audit && got.failOpen == want.failOpen && slices.Equal(got.rules, want.rules)
	}
	return same
}

// checkForm checks what NodePlan promises about its form.
func checkForm(t *rapid.T, p *plan.NodePlan) {
	used := map[string]bool{}
	for _, g := range p.Groups {
		checkPeers(t, &g)
		seen := map[string]bool{}
		for i, class := range g.Classes {
			text, _ := json.Marshal(class)
			if seen[string(text)] {
				t.Fatalf("group %s: class %d is there twice", g.Key, i)
			}
			seen[string(text)] = true
			for k, v := range class {
				if v.EndPort < v.Port || (v.RuleSet != "") != (v.Verdict == plan.Inspect) || len(v.Policies) == 0 {
					t.Fatalf("group %s: %+v is malformed", g.Key, v)
				}
				if k > 0 && (class[k-1].Protocol > v.Protocol || class[k-1].Protocol == v.Protocol && class[k-1].EndPort >= v.Port) {
					t.Fatalf("group %s: %+v does not come after %+v", g.Key, v, class[k-1])
				}
				used[v.RuleSet] = true
			}
		}
		if g.Epoch == 0 {
			t.Fatalf("group %s has epoch 0", g.Key)
		}
	}
	for i, set := range p.RuleSets {
		if !used[set.Key] {
			t.Fatalf("rule set %s is of no use", set.Key)
		}
		if i > 0 && p.RuleSets[i-1].Key >= set.Key {
			t.Fatalf("rule sets %s and %s are not in order", p.RuleSets[i-1].Key, set.Key)
		}
	}
}

func checkPeers(t *rapid.T, g *plan.Group) {
	roots := 0
	for i, p := range g.Peers {
		if i > 0 && g.Peers[i-1].Prefix.Compare(p.Prefix) >= 0 {
			t.Fatalf("group %s: peers %s and %s are not in order", g.Key, g.Peers[i-1].Prefix, p.Prefix)
		}
		if p.Prefix.Bits() == 0 {
			roots++
			continue
		}
		around, bits := -1, -1
		for _, o := range g.Peers[:i] {
			if o.Prefix.Contains(p.Prefix.Addr()) && o.Prefix.Bits() < p.Prefix.Bits() && o.Prefix.Bits() > bits {
				around, bits = o.Class, o.Prefix.Bits()
			}
		}
		if around == p.Class {
			t.Fatalf("group %s: peer %s says what the prefix around it says", g.Key, p.Prefix)
		}
	}
	if roots != 2 || g.Peers[0].Class != 0 {
		t.Fatalf("group %s: the peers %v lack a default", g.Key, g.Peers)
	}
}

// The order of a snapshot's lists does not show in the plan.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t)
		want := compiled(t, s)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		shuffle(r, s.Namespaces)
		shuffle(r, s.Pods)
		shuffle(r, s.Services)
		shuffle(r, s.EndpointSlices)
		shuffle(r, s.L7Policies)
		for i := range s.EndpointSlices {
			shuffle(r, s.EndpointSlices[i].Endpoints)
			shuffle(r, s.EndpointSlices[i].Ports)
		}
		if diff := cmp.Diff(want, compiled(t, s)); diff != "" {
			t.Fatalf("another order gives another plan (-first +second):\n%s", diff)
		}
	})
}

func compiled(t *rapid.T, s *plan.Snapshot) string {
	p, f := plan.Compile(*s)
	text, err := json.MarshalIndent([]any{p, f}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func shuffle[T any](r *rand.Rand, list []T) {
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}
