package rollout

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/observing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var now = time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)

// policy is one that was made, or changed, some minutes ago.
func policy(name string, mode v1alpha1.Mode, minutes int) v1alpha1.L7Policy {
	at := metav1.NewTime(now.Add(-time.Duration(minutes) * time.Minute))
	return v1alpha1.L7Policy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Generation: 2, CreationTimestamp: metav1.NewTime(now.Add(-100 * time.Hour)), ManagedFields: []metav1.ManagedFieldsEntry{
			{Manager: "kubectl", Time: &at, FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:mode":{}}}`)},
			{Manager: "manager", Subresource: "status", Time: &metav1.Time{Time: now}, FieldsV1: metav1.NewFieldsV1(`{"f:status":{}}`)},
			{Manager: "labeller", Time: &metav1.Time{Time: now}, FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{}}`)},
		}},
		Spec: v1alpha1.L7PolicySpec{Mode: mode},
	}
}

func policies() []v1alpha1.L7Policy {
	silent := policy("silent", v1alpha1.ModeAudit, 600)
	silent.Status.LastDenied = &metav1.Time{Time: now.Add(-10 * time.Minute)}
	return []v1alpha1.L7Policy{
		policy("web", v1alpha1.ModeAudit, 600), policy("fresh", v1alpha1.ModeAudit, 30), policy("clean", v1alpha1.ModeAudit, 5), silent,
		policy("enforced", v1alpha1.ModeEnforce, 600),
	}
}

// collect gives a collector that was told of the events of testdata.
func collect(t *testing.T, exact bool) *Collector {
	t.Helper()
	text, err := os.ReadFile("testdata/agent.log")
	if err != nil {
		t.Fatal(err)
	}
	c := New(Options{
		From: now.Add(-time.Hour), To: now, Policies: InAudit(policies()), Exact: exact,
		Workload: func(pod string) string {
			if strings.HasPrefix(pod, "shop/client-") {
				return "shop/client (Deployment)"
			}
			return pod
		},
	})
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		e, ok := observing.Parse(lines.Text())
		if !ok {
			t.Fatalf("no event: %s", lines.Text())
		}
		c.Add(&e)
	}
	c.AddGap(LateBeginning("worker-2", now.Add(-20*time.Minute)))
	return c
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile("testdata/"+name, []byte(got), 0o644); err != nil { //nolint:gosec // for everybody to read
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/" + name) //nolint:gosec // a golden file
	if err != nil || got != string(want) {
		t.Errorf("%v; testdata/%s is not:\n%s", err, name, got)
	}
}

func TestReport(t *testing.T) {
	for name, exact := range map[string]bool{"audit.txt": false, "audit.exact.txt": true} {
		c := collect(t, exact)
		r := c.Report()
		var out bytes.Buffer
		if err := r.Write(&out); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.String())
		if strings.Contains(out.String(), "\x1b") {
			t.Error("a terminal would obey what a stranger has sent")
		}
		text, err := json.MarshalIndent(&r, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, strings.TrimSuffix(name, "txt")+"json", string(text)+"\n")
	}
}

func TestNothingInAudit(t *testing.T) {
	r := New(Options{From: now.Add(-time.Hour), To: now}).Report()
	var out bytes.Buffer
	if err := r.Write(&out); err != nil || !strings.Contains(out.String(), "No L7Policy is in mode Audit.") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// What differs too much is counted, and not kept.
func TestManyGroups(t *testing.T) {
	c := New(Options{From: now.Add(-time.Hour), To: now, Policies: policies()[:1]})
	e, ok := observing.Parse(`{"kind":"verdict","time":"2026-11-22T10:30:00Z","verdict":"audit","policies":["shop/web"],"http":{"method":"GET","path":"/"}}`)
	if !ok {
		t.Fatal("no event")
	}
	for i := range mostGroups + 7 {
		e.Verdict.HTTP.Path = fmt.Sprint("/x", i)
		c.Add(&e)
	}
	if p := c.Report().Policies[0]; p.Count != mostGroups+7 || len(p.WouldDeny) != mostGroups || p.More != 7 {
		t.Errorf("%d events, %d groups, %d more", p.Count, len(p.WouldDeny), p.More)
	}
}

func TestUnchangedSince(t *testing.T) {
	p := policy("web", v1alpha1.ModeAudit, 30)
	if got := UnchangedSince(&p); !got.Equal(now.Add(-30 * time.Minute)) {
		t.Errorf("it was changed at %s", got)
	}
	p.Generation = 1
	if got := UnchangedSince(&p); !got.Equal(now.Add(-100 * time.Hour)) {
		t.Errorf("one that was never changed: %s", got)
	}
	p.Generation, p.ManagedFields = 2, nil
	if got := UnchangedSince(&p); !got.IsZero() {
		t.Errorf("nothing tells: %s", got)
	}
	if r := New(Options{From: now.Add(-time.Hour), To: now, Policies: []v1alpha1.L7Policy{p}}).Report(); len(r.Policies[0].Gaps) != 1 {
		t.Errorf("it is no gap: %+v", r.Policies[0])
	}
}

func TestGeneralise(t *testing.T) {
	for path, want := range map[string]string{
		"/orders/17/items/3":                        "/orders/{number}/items/{number}",
		"/u/1b4e28ba-2fa1-11d2-883f-0016d3cca427/x": "/u/{uuid}/x",
		"/blob/9f86d081884c7d65":                    "/blob/{hex}",
		"/facade/deadbeef/v2/a1":                    "/facade/deadbeef/v2/a1",
		"/":                                         "/",
		"":                                          "",
		"/%31":                                      "/%31",
	} {
		if got := generalise(path); got != want {
			t.Errorf("%s becomes %s, want %s", path, got, want)
		}
	}
}
