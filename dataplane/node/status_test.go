package node

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// TestConditions: Ready is true only when everything is enforced, and says why when it is not; Stalled only when a person must
// act.
func TestConditions(t *testing.T) {
	policy := &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Generation: 3}}
	pod := types.NamespacedName{Namespace: "shop", Name: "web-1"}
	accepted := metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted", ObservedGeneration: 3}
	invalid := metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: plan.ReasonInvalid, Message: "a bad regex"}
	shadowed := metav1.Condition{Type: plan.ConditionShadowed, Status: metav1.ConditionTrue, Reason: plan.ReasonShadowedRule}
	governed := &plan.NodePlan{
		Edges:  []plan.Edge{{Pod: pod, Ingress: "g"}},
		Groups: []plan.Group{{Key: "g", Policies: []string{"shop/web"}}},
	}
	report := func(change func(*Report), conditions ...metav1.Condition) *Report {
		r := &Report{Plan: governed, Findings: plan.Findings{Policies: []plan.PolicyFindings{{
			Policy: types.NamespacedName{Namespace: "shop", Name: "web"}, Conditions: conditions, LocalPods: 1,
		}}}}
		if change != nil {
			change(r)
		}
		return r
	}
	for _, c := range []struct {
		name     string
		report   *Report
		err      error
		troubles Troubles
		ready    bool
		stalled  bool
		why      string
	}{
		{name: "all is well", report: report(nil, accepted), ready: true},
		{name: "shadowed rules are enforced as written", report: report(nil, accepted, shadowed), ready: true},
		{name: "invalid", report: report(nil, invalid), stalled: true, why: "a bad regex"},
		{name: "sync failed", report: report(nil, accepted), err: errors.New("no bridge"), why: "no bridge"},
		{name: "no engine", report: report(nil, accepted), troubles: Troubles{Engine: "no probe came back"}, why: "no probe came back"},
		{name: "no switch", report: report(nil, accepted), troubles: Troubles{Switch: "no vswitchd", Engine: "no probe"}, why: "no vswitchd"},
		{name: "flows put back", report: report(nil, accepted), troubles: Troubles{Overwritten: "3 flows removed"}, ready: true},
		{name: "rules refused", report: report(func(r *Report) {
			r.Refusals = []Refusal{{Policies: []string{"shop/web"}, Reason: "too many rules", Instead: "nothing is allowed"}}
		}, accepted), stalled: true, why: "too many rules; nothing is allowed"},
		{name: "another's rules refused", report: report(func(r *Report) {
			r.Refusals = []Refusal{{Policies: []string{"shop/other"}}}
		}, accepted), ready: true},
		{name: "a Pod is not governed", report: report(func(r *Report) {
			r.Failed = map[types.NamespacedName]error{pod: errors.New("no namespace")}
		}, accepted), why: "no namespace"},
		{name: "offloads were on", report: report(func(r *Report) {
			r.Links = []LinkFault{{Pod: pod, What: "eth0 had the offloads x on", Mended: true}}
		}, accepted), ready: true},
		{name: "packets do not fit", report: report(func(r *Report) {
			r.Links = []LinkFault{{Pod: pod, What: "the MTU is 9000", Remedy: "lower it"}}
		}, accepted), why: "the MTU is 9000; lower it"},
		{name: "another's packets do not fit", report: report(func(r *Report) {
			r.Links = []LinkFault{{Pod: types.NamespacedName{Namespace: "shop", Name: "other"}, What: "the MTU is 9000"}}
		}, accepted), ready: true},
	} {
		all := c.report.Conditions(policy, c.err, c.troubles)
		ready := meta.FindStatusCondition(all, v1alpha1.ConditionReady)
		if (ready.Status == metav1.ConditionTrue) != c.ready || !strings.Contains(ready.Message, c.why) {
			t.Errorf("%s: Ready is %s: %s", c.name, ready.Status, ready.Message)
		}
		if stalled := meta.IsStatusConditionTrue(all, v1alpha1.ConditionStalled); stalled != c.stalled {
			t.Errorf("%s: Stalled is %t", c.name, stalled)
		}
		for _, condition := range all[len(c.report.Findings.Policies[0].Conditions):] {
			if condition.ObservedGeneration != 3 {
				t.Errorf("%s: %s is of generation %d", c.name, condition.Type, condition.ObservedGeneration)
			}
		}
	}
}
