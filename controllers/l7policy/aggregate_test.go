package l7policy

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func noon() time.Time { return time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC) }

// sample is one state of affairs.
type sample struct {
	name string
	k    known
}

// healthy is a node that applies generation 3; with changes it does not.
func healthy(name string, changes ...func(*nodeView)) nodeView {
	v := nodeView{name: name, covered: true, report: &v1alpha1.NodePolicy{ObservedGeneration: 3, Programmed: true, Enforced: true}}
	for _, change := range changes {
		change(&v)
	}
	return v
}

func mute(v *nodeView)      { v.report = nil }
func silent(v *nodeView)    { v.silent = true }
func down(v *nodeView)      { v.down = true }
func uncovered(v *nodeView) { v.covered, v.report = false, nil }
func joined(v *nodeView)    { v.joined, v.report = true, nil }
func older(v *nodeView)     { v.report.ObservedGeneration = 2 }
func idle(v *nodeView)      { v.report.Enforced = false }

func refused(v *nodeView) {
	v.report.Programmed, v.report.Enforced = false, false
	v.report.Reason, v.report.Message = "RulesRefused", "the engine refuses 1 of 4 rules: pcre parse error; the rules before stay in force"
}

func troubled(reason string, enforced bool) func(*nodeView) {
	return func(v *nodeView) {
		v.report.Degraded, v.report.DegradedMessage, v.report.Enforced = reason, "what was seen.", enforced
	}
}

func fine() []metav1.Condition {
	return []metav1.Condition{
		{Type: "Accepted", Status: "True", Reason: "Accepted", Message: "The policy is valid."},
		{Type: "ResolvedRefs", Status: "True", Reason: "ResolvedRefs", Message: "All references are resolved."},
	}
}

func samples() []sample {
	engine := engineState{exists: true, selector: "worker="}
	base := func(nodes ...nodeView) known {
		return known{generation: 3, findings: fine(), engine: engine, nodes: nodes, now: noon()}
	}
	with := func(k known, change func(*known)) known { change(&k); return k }
	many := make([]nodeView, 0, 14)
	for i := range 14 {
		many = append(many, healthy(fmt.Sprintf("node-%02d", i), mute))
	}
	was := v1alpha1.L7PolicyStatus{Conditions: []metav1.Condition{
		{Type: "Programmed", Status: "True", ObservedGeneration: 3, LastTransitionTime: metav1.NewTime(noon().Add(-time.Hour))}}}
	return []sample{
		{"no Pods", base()},
		{"no Pods and no Engine", with(base(), func(k *known) { k.engine = engineState{} })},
		{"all nodes apply it", base(healthy("a"), healthy("b"))},
		{"one node applies it, since an hour", with(base(healthy("a")), func(k *known) { k.before = was })},
		{"a node has not reported on this generation", base(healthy("a"), healthy("b", older), healthy("c"))},
		{"many nodes have not reported", base(many...)},
		{"rules are refused on one of three nodes", base(healthy("a"), healthy("b", refused), healthy("c", mute))},
		{"nodes are left out", base(healthy("a"), healthy("b", uncovered), healthy("c", uncovered))},
		{"no Engine", with(base(healthy("a", mute)), func(k *known) { k.engine = engineState{} })},
		{"the Engine is being deleted", with(base(healthy("a")), func(k *known) { k.engine.leaving = true })},
		{"the engine of one node does not inspect", base(healthy("a"), healthy("b", troubled("EngineNotInspecting", false)))},
		{"flows were overwritten on one node, the engine of another fails", base(healthy("a", troubled("FlowsOverwritten", true)), healthy("b", troubled("EngineNotInspecting", false)))},
		{"flows were overwritten and put back", base(healthy("a", troubled("FlowsOverwritten", true)))},
		{"a node is not heard of", base(healthy("a"), healthy("b", silent))},
		{"a node was never heard of", base(healthy("a"), healthy("b", mute, silent))},
		{"a node that is down is not waited for", base(healthy("a"), healthy("b", down, silent))},
		{"the only node is down", base(healthy("b", down, mute))},
		{"a node that is down for the cluster reports", base(healthy("a", down))},
		{"Pods have just come to a node", with(base(healthy("a"), healthy("b", joined)), func(k *known) { k.before = was })},
		{"Pods came to a node some time ago", with(base(healthy("a"), healthy("b", mute)), func(k *known) { k.before = was })},
		{"a node applies it but does not judge", base(healthy("a", idle))},
		{"it is invalid", with(base(healthy("a")), func(k *known) {
			k.findings[0] = metav1.Condition{Type: "Accepted", Status: "False", Reason: "Invalid", Message: "spec.podSelector cannot be used."}
		})},
		{"a reference dangles", with(base(healthy("a")), func(k *known) {
			k.findings[1] = metav1.Condition{Type: "ResolvedRefs", Status: "False", Reason: "ServiceNotFound", Message: "spec.egress[0].to[0].service names a Service that does not exist."}
		})},
		{"a rule is shadowed, and there were denials", with(base(healthy("a")), func(k *known) {
			k.findings = append(k.findings, metav1.Condition{Type: "Shadowed", Status: "True", Reason: "ShadowedRule", Message: "spec.ingress[0] has no effect."})
			k.totals = totals{denied: 12, audited: 3, last: noon().Add(-time.Minute)}
		})},
	}
}

// Each state of affairs gives the status that testdata/status.txt shows.
func TestAggregate(t *testing.T) {
	var text strings.Builder
	for _, s := range samples() {
		fmt.Fprintf(&text, "# %s\n", s.name)
		got := aggregate(s.k)
		for _, c := range got.Conditions {
			if c.ObservedGeneration != 3 || c.Message == "" || c.Reason == "" {
				t.Errorf("%s: %s is incomplete: %+v", s.name, c.Type, c)
			}
			if slices.ContainsFunc(fine(), func(a metav1.Condition) bool {
				a.ObservedGeneration, a.LastTransitionTime = 3, c.LastTransitionTime
				return a == c
			}) {
				continue // as it came
			}
			since := ""
			if ago := noon().Sub(c.LastTransitionTime.Time); ago > 0 {
				since = fmt.Sprint(" for ", ago)
			}
			fmt.Fprintf(&text, "%s=%s%s %s: %s\n", c.Type, c.Status, since, c.Reason, c.Message)
		}
		fmt.Fprintf(&text, "nodes: %d of %d", got.Nodes.Programmed, got.Nodes.Desired)
		if len(got.Nodes.Failing) > 0 {
			fmt.Fprintf(&text, ", failing: %s", strings.Join(got.Nodes.Failing, " "))
		}
		if got.LastDenied != nil {
			fmt.Fprintf(&text, "; denied %d, audited %d, last %s", got.Denied, got.Audited, got.LastDenied.UTC().Format(time.TimeOnly))
		}
		text.WriteString("\n\n")
	}
	const golden = "testdata/status.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(text.String(), "\n")); diff != "" {
		t.Errorf("statuses differ (-want +got); if this is meant: go test ./controllers/l7policy -update\n%s", diff)
	}
}

// Whatever the nodes say, the conditions fit together.
func TestConditionsFitTogether(t *testing.T) {
	changes := []func(*nodeView){mute, silent, down, uncovered, joined, func(v *nodeView) {
		if v.report != nil {
			refused(v)
		}
	}, func(v *nodeView) {
		if v.report != nil {
			troubled("EngineNotInspecting", false)(v)
		}
	}, func(v *nodeView) {
		if v.report != nil {
			older(v)
		}
	}}
	rapid.Check(t, func(t *rapid.T) {
		k := known{generation: 3, findings: fine(), now: noon(), engine: engineState{exists: rapid.Bool().Draw(t, "engine")}}
		for i := range rapid.IntRange(0, 14).Draw(t, "nodes") {
			v := healthy(fmt.Sprint("n", i))
			for _, change := range rapid.SliceOfN(rapid.SampledFrom(changes), 0, 3).Draw(t, "changes") {
				change(&v)
			}
			k.nodes = append(k.nodes, v)
		}
		s := aggregate(k)
		is := func(kind string) bool {
			c := find(s.Conditions, kind)
			return c != nil && c.Status == metav1.ConditionTrue
		}
		switch {
		case is("Ready") && (!is("Programmed") || is("Stalled")):
			t.Fatal("it is Ready, yet not Programmed or Stalled")
		case is("Programmed") != (s.Nodes.Programmed == s.Nodes.Desired) && k.engine.exists:
			t.Fatalf("Programmed and the counts differ: %+v", s)
		case len(s.Nodes.Failing) != int(min(10, s.Nodes.Desired-s.Nodes.Programmed)):
			t.Fatalf("%d nodes of %d are said to fail", len(s.Nodes.Failing), s.Nodes.Desired-s.Nodes.Programmed)
		}
		for _, c := range s.Conditions {
			if len(c.Message) > maxMessage || c.Reason == "" || c.Message == "" {
				t.Fatalf("%+v", c)
			}
		}
		if again := aggregate(known{k.generation, k.findings, k.engine, k.nodes, k.totals, s, noon().Add(time.Hour)}); !slices.EqualFunc(again.Conditions, s.Conditions,
			func(a, b metav1.Condition) bool {
				return a.Type != b.Type || a.LastTransitionTime == b.LastTransitionTime || a.Status != b.Status
			}) {
			t.Fatalf("times change though nothing else does: %+v", again)
		}
	})
}
