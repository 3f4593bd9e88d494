package ranking

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/tracing"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
)

var update = flag.Bool("update", false, "rewrite the golden file")

var now = time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)

// all are three policies: two that share flows on two nodes, and one of which a node does not tell.
func all() []Policy {
	make := func(name string, mode v1alpha1.Mode, denied, audited int64) *v1alpha1.L7Policy {
		p := &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
		p.Spec.Mode = mode
		p.Spec.Ingress = []v1alpha1.IngressRule{{Name: "pages", L7: []v1alpha1.L7Match{{HTTP: &v1alpha1.HTTPMatch{}}}}, {}}
		p.Status = v1alpha1.L7PolicyStatus{Denied: denied, Audited: audited, Nodes: &v1alpha1.NodeCounts{Desired: 2}}
		if denied > 0 {
			p.Status.LastDenied = &metav1.Time{Time: now.Add(-90 * time.Second)}
		}
		return p
	}
	node := func(pods string, judged, other uint64) *trace.Policy {
		return &trace.Policy{
			Pods: []string{pods},
			RuleSets: []trace.CompiledRules{{
				Inspection: trace.Inspection{ID: 18, Policies: []string{"shop/busy", "shop/audit"}, Entries: []l7.Entry{{Policy: "shop/busy", Rule: "pages"}, {Policy: "shop/audit", Rule: "pages"}}},
				Rules:      []string{"a", "b", "c"},
			}},
			Flows: []trace.CountedFlow{
				{Table: "PortVerdict", Actions: "set_field:0x80/0x380->reg0,set_field:0x12/0xfff->reg7,goto_table:90", Packets: judged},
				{Table: "PortVerdict", Actions: "goto_table:90", Packets: other},
				{Table: "ConntrackState", Packets: 10 * judged}, {Table: "ConntrackState", Packets: judged}, {Table: "AskClient", Packets: 1000},
			},
		}
	}
	busy, audit, away := make("busy", v1alpha1.ModeEnforce, 3, 0), make("audit", v1alpha1.ModeAudit, 0, 12), make("away", v1alpha1.ModeEnforce, 40, 0)
	rows := []Policy{Of(busy), Of(audit), Of(away)}
	rows[0].Measure(&tracing.Explanation{Spec: busy.Spec, Nodes: []*trace.Policy{node("shop/web (ingress, egress)", 40, 2), node("shop/web-2 (ingress)", 5, 0)}})
	rows[1].Measure(&tracing.Explanation{Spec: audit.Spec, Nodes: []*trace.Policy{node("shop/web (egress)", 7, 0)}})
	rows[2].Unknown = "node worker-3 does not answer"
	other := make("other", v1alpha1.ModeEnforce, 0, 0)
	rows = append(rows, Of(other))
	rows[3].Measure(&tracing.Explanation{Spec: other.Spec, Nodes: []*trace.Policy{node("shop/web-2 (egress)", 0, 0)}})
	Share(rows)
	return rows
}

func TestSort(t *testing.T) {
	for order, want := range map[string]string{
		"denied": "shop/away shop/audit shop/busy shop/other", "hits": "shop/busy shop/audit shop/away shop/other",
		"cost": "shop/busy shop/audit shop/away shop/other", "name": "shop/audit shop/away shop/busy shop/other",
	} {
		rows := all()
		Sort(rows, order)
		var got []string
		for i := range rows {
			got = append(got, rows[i].Policy)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("by %s: %v, want %s", order, got, want)
		}
	}
}

func TestWrite(t *testing.T) {
	var out bytes.Buffer
	rows := all()
	Sort(rows, "denied")
	for _, c := range [][2]bool{{false, false}, {true, false}, {true, true}} {
		if err := Write(&out, rows, c[0], c[1], now); err != nil {
			t.Fatal(err)
		}
		out.WriteString("\n")
	}
	if *update {
		if err := os.WriteFile("testdata/top.txt", out.Bytes(), 0o644); err != nil { //nolint:gosec // for everybody to read
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/top.txt")
	if err != nil || out.String() != string(want) {
		t.Errorf("%v; testdata/top.txt is not:\n%s", err, out.String())
	}
}
