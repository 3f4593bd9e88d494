package agent

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

var update = flag.Bool("update", false, "write the golden files")

var noon = time.Date(2026, 11, 22, 12, 0, 0, 500, time.UTC)

// good are the facts of a node on which everything is in force: two Pods, of which shop/web selects one.
func good() facts {
	web, idle := policyFor("web", 3, "client"), policyFor("idle", 1, "client")
	s := &synced{policies: []v1alpha1.L7Policy{web, idle}}
	s.choice.policies = s.policies
	s.outcome.Report = &node.Report{
		Plan: &plan.NodePlan{
			Edges:  []plan.Edge{{Pod: types.NamespacedName{Namespace: "shop", Name: "web-0"}, UID: "1", Ingress: "g"}},
			Groups: []plan.Group{{Key: "g", Direction: plan.Ingress, Policies: []string{"shop/web"}}},
		},
		Findings: plan.Findings{Policies: []plan.PolicyFindings{
			{Policy: types.NamespacedName{Namespace: "shop", Name: "idle"}},
			{Policy: types.NamespacedName{Namespace: "shop", Name: "web"}, Pods: 1, LocalPods: 1},
		}},
	}
	return facts{
		now: noon, version: "v0.1.0", last: s, health: engine.Health{Healthy: true, Since: noon.Add(-time.Minute)}, ruleSets: 1,
		engine: engine.Status{Version: "8.0.8", Loaded: engine.Loaded{Rules: 17}},
		counts: map[string]count{"shop/web": {Denied: 4, Audited: 1, Last: noon.Add(-time.Second)}},
	}
}

// TestReport compares reports with golden files: go test -update rewrites them.
func TestReport(t *testing.T) {
	pod := types.NamespacedName{Namespace: "shop", Name: "web-0"}
	before := func(f *facts) {
		earlier := good()
		earlier.now = noon.Add(-time.Hour)
		f.before = report(earlier)
	}
	for name, change := range map[string]func(*facts){
		"good":             func(*facts) {},
		"good for an hour": before,
		"starting":         func(f *facts) { f.last, f.waiting = nil, "no Open vSwitch answers" },
		"starting after another": func(f *facts) {
			before(f)
			f.last, f.waiting = nil, "the API server has not told everything yet"
		},
		"engine down": func(f *facts) {
			before(f)
			f.health = engine.Health{Reason: "it hangs", Since: noon.Add(-3 * time.Second)}
			f.troubles.Engine = "it hangs"
		},
		"flows overwritten": func(f *facts) { before(f); f.troubles.Overwritten = "somebody else changes the flows" },
		"switch down":       func(f *facts) { f.troubles.Switch = "Open vSwitch cannot be reached" },
		"rules refused": func(f *facts) {
			f.last.outcome.Report.Refusals = []node.Refusal{{Policies: []string{"shop/web"}, Reason: "a rule is too long", Instead: "what was in force before stays"}}
		},
		"sync failed": func(f *facts) { f.last.outcome.Err = errors.New("the flows are not committed") },
		"pod not governed": func(f *facts) {
			f.last.outcome.Report.Failed = map[types.NamespacedName]error{pod: errors.New("Pod shop/web-0: it is gone")}
		},
		"interfaces changed": func(f *facts) {
			f.links = []node.LinkFault{{Pod: pod, What: "offload tx is on", Mended: true, Times: 1}}
		},
		"peers unresolved": func(f *facts) {
			f.last.choice.unresolved = map[types.NamespacedName][]string{{Namespace: "shop", Name: "web"}: {"abc", "def"}}
		},
		"leaving":  func(f *facts) { before(f); f.leaving = "Pods are being put back" },
		"detached": func(f *facts) { before(f); f.detached = true },
	} {
		t.Run(name, func(t *testing.T) {
			f := good()
			change(&f)
			text, err := yaml.Marshal(report(f))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", "report", strings.ReplaceAll(name, " ", "-")+".out.yaml")
			if *update {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(text)); d != "" {
				t.Errorf("the report (-want +got):\n%s", d)
			}
		})
	}
}

// TestReportKeepsLimits: what the API server would refuse is cut.
func TestReportKeepsLimits(t *testing.T) {
	f := good()
	f.version = strings.Repeat("v", 100)
	f.last.choice.policies = nil
	f.last.outcome.Report.Findings.Policies = nil
	for i := range mostPolicies + 5 {
		p := policyFor(fmt.Sprintf("p-%04d", i), 1, "client")
		f.last.choice.policies = append(f.last.choice.policies, p)
		f.last.outcome.Report.Findings.Policies = append(f.last.outcome.Report.Findings.Policies, plan.PolicyFindings{
			Policy: types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, LocalPods: 1,
		})
	}
	f.last.outcome.Err = errors.New(strings.Repeat("ä", 3000))
	s := report(f)
	if len(s.Policies) != mostPolicies || s.PolicyCount != mostPolicies+5 || len(s.AgentVersion) > 64 {
		t.Errorf("%d policies of %d, version of %d bytes", len(s.Policies), s.PolicyCount, len(s.AgentVersion))
	}
	if m := s.Policies[0].Message; len(m) > longest || len(m) < longest-5 || !strings.HasSuffix(m, "ä…") {
		t.Errorf("a message of %d bytes ends with %q", len(m), m[len(m)-10:])
	}
	for _, c := range s.Conditions {
		if len(c.Message) > longest {
			t.Errorf("the message of %s has %d bytes", c.Type, len(c.Message))
		}
	}
}

// TestToldIsNotWritten: only what is new is a reason to write.
func TestToldIsNotWritten(t *testing.T) {
	f := good()
	first := report(f)
	f.before, f.now = first, noon.Add(time.Minute)
	if second := report(f); !told(second, first) {
		t.Errorf("nothing has changed: %s", cmp.Diff(first, second))
	}
	f.counts = map[string]count{"shop/web": {Denied: 5, Last: noon}}
	if told(report(f), first) {
		t.Error("another denial is told already")
	}
}
