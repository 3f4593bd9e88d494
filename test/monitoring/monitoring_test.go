package monitoring

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const root = "../.."

// promtool runs Prometheus' own, which `make test` installs.
func promtool(t *testing.T, arguments ...string) {
	t.Helper()
	program, err := exec.LookPath("promtool")
	if err != nil {
		cache := os.Getenv("MEERKAT_CACHE")
		if cache == "" {
			cache = "/var/cache/meerkat"
		}
		program = filepath.Join(cache, "bin/promtool")
	}
	out, err := exec.CommandContext(t.Context(), program, arguments...).CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s(hack/install-deps.sh installs promtool)", strings.Join(arguments, " "), err, out)
	}
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAlerts: they are sound, each has a page that says what to do, and each fires when it should and not when it should not.
func TestAlerts(t *testing.T) {
	groups, alerts, err := Alerts(root)
	if err != nil || len(alerts) == 0 {
		t.Fatal("no alerts", err)
	}
	rules := write(t, "rules.yaml", groups)
	promtool(t, "check", "rules", "--lint-fatal", rules)

	cases, err := os.ReadFile("testdata/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	promtool(t, "test", "rules", write(t, "cases.yaml", []byte(strings.ReplaceAll(string(cases), "RULES", write(t, "short.yaml", summaries(t, groups))))))

	var tests struct {
		Tests []struct {
			Rules []struct {
				Alert string `json:"alertname"`
				Fires []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		} `json:"tests"`
	}
	if err := yaml.Unmarshal(cases, &tests); err != nil {
		t.Fatal(err)
	}
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, c := range tests.Tests {
		for _, r := range c.Rules {
			if len(r.Fires) > 0 {
				fires[r.Alert] = true
			} else {
				silent[r.Alert] = true
			}
		}
	}
	index, err := os.ReadFile(root + "/docs/runbooks/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range alerts {
		if !fires[a.Alert] || !silent[a.Alert] {
			t.Errorf("testdata/alerts.yaml has no case in which %s fires, or none in which it does not", a.Alert)
		}
		if a.Labels["severity"] == "" || a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s has no severity, summary or description", a.Alert)
		}
		page, err := os.ReadFile(root + "/docs/runbooks/" + a.Alert + ".md")
		switch {
		case err != nil:
			t.Errorf("%s has no runbook: %v", a.Alert, err)
		case !strings.HasSuffix(a.Annotations["runbook_url"], "/docs/runbooks/"+a.Alert+".md"):
			t.Errorf("%s does not name its runbook: %q", a.Alert, a.Annotations["runbook_url"])
		case !strings.Contains(string(page), "\n"+a.Expr+"\n"):
			t.Errorf("the runbook of %s has another expression", a.Alert)
		case !strings.Contains(string(index), "]("+a.Alert+".md)"):
			t.Errorf("docs/runbooks/README.md does not list %s", a.Alert)
		}
	}
	expressions := make([]string, len(alerts))
	for i := range alerts {
		expressions[i] = alerts[i].Expr
	}
	documented(t, expressions)
}

// summaries leaves the other annotations out, which are the same in every case.
func summaries(t *testing.T, groups []byte) []byte {
	t.Helper()
	var rules Rules
	if err := yaml.Unmarshal(groups, &rules); err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for i := range g.Rules {
			g.Rules[i].Annotations = map[string]string{"summary": g.Rules[i].Annotations["summary"]}
		}
	}
	short, err := yaml.Marshal(rules)
	if err != nil {
		t.Fatal(err)
	}
	return short
}

// TestDashboard: its queries are PromQL, of metrics that there are.
func TestDashboard(t *testing.T) {
	queries, err := Queries(root)
	if err != nil || len(queries) == 0 {
		t.Fatal("no queries", err)
	}
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for i, q := range queries {
		fmt.Fprintf(&rules, "  - record: query:%d\n    expr: %q\n", i, q)
	}
	promtool(t, "check", "rules", write(t, "dashboard.yaml", []byte(rules.String())))
	documented(t, queries)
}

// ofPrometheus are the labels that Prometheus adds, by the monitors of config/prometheus.
var ofPrometheus = []string{"node", "instance", "job", "le"}

var (
	selector = regexp.MustCompile(`\b(meerkat_[a-z_]+)\{([^}]*)\}`)
	label    = regexp.MustCompile(`([a-z_]+)(=~|!=|!~|=)"`)
)

// documented wants docs/metrics.md to have each metric of queries, with the labels that they select by.
func documented(t *testing.T, queries []string) {
	t.Helper()
	page, err := os.ReadFile(root + "/docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string][]string{}
	for _, m := range regexp.MustCompile("\\| `(meerkat_[a-z_]+)(?:\\{([a-z,]*)\\})?`").FindAllStringSubmatch(string(page), -1) {
		labels[m[1]] = append(strings.Split(m[2], ","), ofPrometheus...)
	}
	for _, name := range Metrics(queries...) {
		if labels[name] == nil {
			t.Errorf("docs/metrics.md has no %s", name)
		}
	}
	for _, q := range queries {
		for _, m := range selector.FindAllStringSubmatch(q, -1) {
			name := Metrics(m[1])[0]
			for _, l := range label.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(labels[name], l[1]) {
					t.Errorf("%s has no label %s: %s", name, l[1], q)
				}
			}
		}
	}
}
