package rollout

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// ready is a policy that nothing stands against.
func ready() *v1alpha1.L7Policy {
	p := policy("clean", v1alpha1.ModeAudit, 600)
	p.Status = v1alpha1.L7PolicyStatus{
		ObservedGeneration: 2, Nodes: &v1alpha1.NodeCounts{Desired: 2, Programmed: 2},
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}},
	}
	return &p
}

// judge judges a policy with the evidence that there is none against it, but for gaps.
func judge(p *v1alpha1.L7Policy, traffic Traffic, gaps ...Gap) *Promotion {
	c := New(Options{From: now.Add(-time.Hour), To: now, Policies: []v1alpha1.L7Policy{*p}})
	for _, g := range gaps {
		c.AddGap(g)
	}
	r := c.Report()
	return r.Judge(p, traffic, nil)
}

func TestPromotion(t *testing.T) {
	traffic := Traffic{Connections: 42}
	if p := judge(ready(), traffic); len(p.Against) > 0 || string(p.Patch) !=
		`[{"op":"test","path":"/metadata/generation","value":2},{"op":"replace","path":"/spec/mode","value":"Enforce"}]` {
		t.Errorf("%v, %s", p.Against, p.Patch)
	}
	for name, c := range map[string]struct {
		change  func(*v1alpha1.L7Policy)
		traffic Traffic
		gaps    []Gap
		want    string
	}{
		"changed of late": {change: func(p *v1alpha1.L7Policy) { p.ManagedFields[0].Time = &metav1.Time{Time: now.Add(-10 * time.Minute)} }, traffic: traffic,
			want: "it is for 10m only, and evidence of 1h was asked for"},
		"no traffic":       {traffic: Traffic{}, want: "no connection has come"},
		"unknown traffic":  {traffic: Traffic{Unknown: "forbidden"}, want: "not known (forbidden)"},
		"traffic not seen": {traffic: Traffic{NotAsked: true}},
		"lost events":      {traffic: traffic, gaps: []Gap{LostEvents("worker-1", now, 3)}, want: "worker-1 left 3 events out"},
		"lost before":      {traffic: traffic, gaps: []Gap{LostEvents("worker-1", now.Add(-2*time.Hour), 3)}},
		"no Pods":          {change: func(p *v1alpha1.L7Policy) { p.Status.Nodes = nil }, traffic: traffic, want: "selects no Pod"},
		"not everywhere": {change: func(p *v1alpha1.L7Policy) {
			p.Status.Nodes = &v1alpha1.NodeCounts{Desired: 3, Programmed: 2, Failing: []string{"worker-3"}}
		}, traffic: traffic, want: "on 2 of 3 nodes; not on worker-3"},
		"not looked at": {change: func(p *v1alpha1.L7Policy) { p.Generation = 3 }, traffic: traffic, want: "not yet looked at its last change"},
		"degraded": {change: func(p *v1alpha1.L7Policy) {
			p.Status.Conditions = append(p.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionDegraded, Status: metav1.ConditionTrue, Message: "the engine hangs"})
		}, traffic: traffic, want: "degraded: the engine hangs"},
		"not ready": {change: func(p *v1alpha1.L7Policy) {
			p.Status.Conditions[0].Status, p.Status.Conditions[0].Message = metav1.ConditionFalse, "rules were refused"
		}, traffic: traffic, want: "not ready: rules were refused"},
		"nothing said": {change: func(p *v1alpha1.L7Policy) { p.Status.Conditions = nil }, traffic: traffic, want: "nothing is said of it yet"},
		"an event that is not there": {change: func(p *v1alpha1.L7Policy) { p.Status.LastDenied = &metav1.Time{Time: now.Add(-time.Minute)} }, traffic: traffic,
			want: "of which there is no event"},
	} {
		p := ready()
		if c.change != nil {
			c.change(p)
		}
		got := judge(p, c.traffic, c.gaps...)
		if c.want == "" && len(got.Against) > 0 || c.want != "" && (len(got.Against) != 1 || !strings.Contains(got.Against[0], c.want)) {
			t.Errorf("%s: %q, want %q", name, got.Against, c.want)
		}
	}
}

func TestPromotionForPeople(t *testing.T) {
	ofEvents := collect(t, false).Report()
	web := policies()[0]
	web.Status = ready().Status
	for name, p := range map[string]*Promotion{
		"promote.txt":       judge(ready(), Traffic{Connections: 42}),
		"promote.never.txt": ofEvents.Judge(&web, Traffic{Unknown: "pods is forbidden"}, []string{"shop/orders"}),
	} {
		var out bytes.Buffer
		if err := p.Write(&out, "kubectl patch …"); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.String())
		if !json.Valid(p.Patch) {
			t.Errorf("%s", p.Patch)
		}
	}
}
