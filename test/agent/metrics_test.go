package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/meerkat-dev/meerkat/test/monitoring"
)

// checkMetrics asks an agent that has allowed and denied something for its metrics: all are there, as soon as the engine has counted, none is
// written against Prometheus' rules, and docs/metrics.md has every one.
func (w *world) checkMetrics(address string) {
	w.t.Helper()
	text := get(w.t, "http://"+address+"/metrics")
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, problem := range problems {
		if strings.HasPrefix(problem.Metric, "meerkat_") {
			w.t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
	var families map[string]*dto.MetricFamily
	w.eventually("what the agent and its engine count is among the metrics", func() error {
		families = parsed(w.t, get(w.t, "http://"+address+"/metrics"))
		var missing []string
		for name, least := range map[string]float64{
			"meerkat_syncs_total": 1, "meerkat_sync_duration_seconds": 1, "meerkat_change_delay_seconds": 1,
			"meerkat_rules_load_duration_seconds": 1, "meerkat_verdicts_total": 1, "meerkat_governed_pods": 1,
			"meerkat_engine_inspecting": 1, "meerkat_engine_restarts_total": 0, "meerkat_engine_connections_total": 2,
			"meerkat_engine_packets_total": 10, "meerkat_engine_bytes_total": 1000, "meerkat_engine_ring_losses_total": 0,
			"meerkat_engine_drops_total": 1, "meerkat_engine_probes_total": 1, "meerkat_engine_probes_lost_total": 0,
			"meerkat_engine_probe_rtt_seconds": 1e-6, "meerkat_engine_events_lost_total": 0, "meerkat_verdicts_lost_total": 0, "meerkat_conntrack_connections": 1,
			"meerkat_conntrack_limit": 1000, "meerkat_flow_repairs_total": 0, "meerkat_switch_restarts_total": 0,
		} {
			if family := families[name]; family == nil || total(family) < least {
				missing = append(missing, fmt.Sprintf("%s, of %v at least, is %v", name, least, family))
			}
		}
		if len(missing) > 0 {
			return errors.New(strings.Join(missing, "; "))
		}
		return unresolved(w.t, families, func(name string) bool { return !ofOthers.MatchString(name) })
	})
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		w.t.Fatal(err)
	}
	for name := range families {
		if strings.HasPrefix(name, "meerkat_") && !regexp.MustCompile("`"+name+"[`{]").Match(page) {
			w.t.Errorf("docs/metrics.md does not say what %s is", name)
		}
	}
}

func parsed(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// ofOthers are metrics of which there is nothing without inspections, outputs, captures and exports.
var ofOthers = regexp.MustCompile("^meerkat_(signature|alerts|event_output|capture|flowexport)_")

// unresolved tells which metrics the alerts and the dashboard ask for that are not among those of an agent, as far as they are looked at.
func unresolved(t *testing.T, families map[string]*dto.MetricFamily, look func(string) bool) error {
	t.Helper()
	_, alerts, err := monitoring.Alerts("../..")
	if err != nil {
		t.Fatal(err)
	}
	queries, err := monitoring.Queries("../..")
	if err != nil {
		t.Fatal(err)
	}
	for i := range alerts {
		queries = append(queries, alerts[i].Expr)
	}
	var errs []error
	for _, name := range monitoring.Metrics(queries...) {
		if families[name] == nil && look(name) {
			errs = append(errs, fmt.Errorf("the alerts or the dashboard ask for %s, which the agent does not have", name))
		}
	}
	return errors.Join(errs...)
}

// checkLoads asks an agent that has loaded one revision of signatures, and been refused another.
func (w *world) checkLoads(address string) {
	w.t.Helper()
	w.eventually("what the signature engine counts is among the metrics", func() error {
		return unresolved(w.t, parsed(w.t, get(w.t, "http://"+address+"/metrics")), func(name string) bool {
			return !strings.HasPrefix(name, "meerkat_event_output_") && !strings.HasPrefix(name, "meerkat_verdicts") && !strings.HasPrefix(name, "meerkat_flowexport_")
		})
	})
	text := get(w.t, "http://"+address+"/metrics")
	for _, line := range []string{
		`meerkat_rules_load_duration_seconds_count{engine="signatures",result="success"} 1`,
		`meerkat_rules_load_duration_seconds_count{engine="signatures",result="error"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			w.t.Errorf("%s is not among the metrics:\n%s", line, regexp.MustCompile(`(?m)^meerkat_rules_load_duration_seconds_count.*`).FindAllString(text, -1))
		}
	}
}

// total adds up all series of a metric; of a histogram, how often something was observed.
func total(family *dto.MetricFamily) (sum float64) {
	for _, m := range family.GetMetric() {
		sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return sum
}

// freeAddress is one of this machine's that nobody listens at. No other program uses its IP address: a port of 127.0.0.1 could be taken by
// the time that the agent listens, also by a client.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func get(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(fmt.Errorf("%s answers %s: %w", url, answer.Status, err))
	}
	return string(body)
}
