package agent

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

var local = plan.SignatureRef{Kind: plan.KindRuleSet, Namespace: "shop", Name: "local"}

// inspecting are the facts of a node with one inspection in mode Prevent, whose rule set runs its revision "new".
func inspecting() facts {
	ref := local
	ref.Revision = "new"
	f := good()
	s := f.last
	s.inspections = []v1alpha1.TrafficInspection{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "guard", Generation: 2}, Spec: v1alpha1.TrafficInspectionSpec{
		Mode: v1alpha1.InspectionPrevent, RuleSets: []v1alpha1.RuleSetReference{{Name: "local"}},
	}}}
	s.ruleSets = []ruleSet{{name: local, status: &v1alpha1.RuleSetStatus{Revision: "new"}, needed: true, target: "new", chosen: "new"}}
	r := s.outcome.Report
	r.Committed = true
	r.Plan.Profiles = []plan.Profile{{Key: "p", Mode: v1alpha1.InspectionPrevent, RuleSets: []plan.SignatureRef{ref}, Inspections: []string{"shop/guard"}}}
	r.Plan.Taps = []plan.Tap{{Key: "t", Inspections: []string{"shop/guard"}, Profiles: []string{"p"}}}
	r.Plan.Groups[0].Taps = []plan.PortTaps{{Prevent: "t"}}
	r.Findings.Inspections = []plan.InspectionFindings{{
		Inspection: types.NamespacedName{Namespace: "shop", Name: "guard"}, Pods: 3, LocalPods: 1, Profile: "p",
	}}
	f.signatures = signatureFacts{
		engines: []node.SignatureEngine{{
			Profile: "p", Slot: 1, Mode: v1alpha1.InspectionPrevent, RuleSets: []plan.SignatureRef{ref}, LoadedAt: noon.Add(-time.Minute),
			Status: engine.Status{Health: engine.Health{Healthy: true}},
		}},
		records: alertRecords{
			RuleSets:    map[string]ruleSetRecord{"shop/local": {Revision: "new", Loaded: noon.Add(-time.Minute), Alerts: 7, Drops: 2}},
			Inspections: map[string]inspectionRecord{"shop/guard": {Alerts: v1alpha1.AlertCounts{Total: 7, High: 7, Dropped: 2}}},
		},
	}
	return f
}

// TestReportOfSignatures: what a node says of an inspection and its rule set, by what is so.
func TestReportOfSignatures(t *testing.T) {
	type said struct {
		revision, setReason  string
		healthy              bool
		programmed, degraded string // reasons; "" is programmed, and not degraded
		inspected            bool
	}
	refused := &engine.LoadError{Expected: 3, Loaded: -1, Reason: "no"}
	older := func(f *facts) {
		f.signatures.engines[0].RuleSets = []plan.SignatureRef{{Kind: local.Kind, Namespace: local.Namespace, Name: local.Name, Revision: "old"}}
		f.signatures.records.RuleSets["shop/local"] = ruleSetRecord{Revision: "old", Loaded: noon.Add(-time.Hour)}
	}
	for name, c := range map[string]struct {
		change func(*facts)
		want   said
	}{
		"good":            {func(*facts) {}, said{"new", "", true, "", "", true}},
		"counted no more": {func(f *facts) { f.signatures.records = alertRecords{} }, said{"new", "", true, "", "", true}},
		"engine down": {func(f *facts) { f.signatures.engines[0].Status.Health = engine.Health{Reason: "it hangs"} },
			said{"new", node.ReasonEngineNotInspecting, false, "", node.ReasonEngineNotInspecting, false}},
		"refused, the one before goes on": {func(f *facts) {
			older(f)
			f.last.ruleSets[0].chosen, f.last.ruleSets[0].why = "old", &trouble{node.ReasonRulesRefused, "no"}
		}, said{"old", node.ReasonRulesRefused, true, node.ReasonRulesRefused, "", true}},
		"just refused": {func(f *facts) {
			older(f)
			f.last.outcome.Report.Signatures = map[string]error{"p": refused}
		}, said{"old", node.ReasonRulesRefused, true, node.ReasonRulesRefused, "", true}},
		"loading, the one before goes on": {func(f *facts) {
			older(f)
			f.last.outcome.Report.Signatures = map[string]error{"p": fmt.Errorf("%w since noon", node.ErrLoading)}
		}, said{"old", ReasonNotLoaded, true, ReasonNotLoaded, "", true}},
		"loading for the first time": {func(f *facts) {
			f.signatures.engines[0].RuleSets = nil
			f.signatures.records = alertRecords{}
			f.last.outcome.Report.Signatures = map[string]error{"p": fmt.Errorf("%w since noon", node.ErrLoading)}
		}, said{"", ReasonNotLoaded, true, ReasonNotLoaded, "", false}},
		"loading for another HOME_NET": {func(f *facts) {
			f.last.outcome.Report.Signatures = map[string]error{"p": fmt.Errorf("%w since noon", node.ErrLoading)}
		}, said{"new", "", true, "", "", true}},
		"not read": {func(f *facts) {
			older(f)
			f.last.ruleSets[0].chosen, f.last.ruleSets[0].why = "old", &trouble{ReasonRevisionNotRead, "not found"}
		}, said{"old", ReasonRevisionNotRead, true, "", ReasonRevisionNotRead, true}},
		"no engine yet": {func(f *facts) { f.signatures.engines = nil }, said{"", ReasonNotLoaded, false, node.ReasonNotProgrammed, "", false}},
		"switch down":   {func(f *facts) { f.troubles.Switch = "gone" }, said{"new", "", true, "", node.ReasonSwitchDown, false}},
		"no engine left": {func(f *facts) {
			f.last.outcome.Report.Findings.Inspections[0].NotDone = "four already"
		}, said{"new", "", true, ReasonNotDone, "", true}},
		"pod not behind the bridge": {func(f *facts) {
			f.last.outcome.Report.Failed = map[types.NamespacedName]error{{Namespace: "shop", Name: "web-0"}: errNoEdge}
		}, said{"new", "", true, node.ReasonPodsNotGoverned, "", true}},
	} {
		t.Run(name, func(t *testing.T) {
			f := inspecting()
			c.change(&f)
			s := report(f)
			r, i := s.RuleSets[0], s.Inspections[0]
			got := said{r.Revision, r.Reason, r.Healthy, i.Reason, i.Degraded, i.Inspected}
			if got != c.want {
				t.Errorf("got %+v, want %+v\n%s\n%s %s", got, c.want, r.Message, i.Message, i.DegradedMessage)
			}
			if i.Programmed != (i.Reason == "") || r.Loaded != nil && r.Loaded.IsZero() || i.Pods != 1 {
				t.Errorf("%+v %+v", r, i)
			}
		})
	}
}
