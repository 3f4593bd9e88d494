package agent

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/node"
)

const (
	// lossesEvery is how often the signature engines are asked what they have lost, and lossesTimeout how long they have for it.
	lossesEvery, lossesTimeout = 15 * time.Second, 5 * time.Second
)

// alert counts an alert.
func (m *metrics) alert(e *alerts.Event) {
	severity := "low"
	switch e.Signature.Severity {
	case 1:
		severity = "high"
	case 2:
		severity = "medium"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range e.Inspections {
		if !m.inspections[name] && len(m.inspections) >= mostLabelled {
			name = "other"
		} else {
			m.inspections[name] = true
		}
		m.alerts.WithLabelValues(name, severity, string(e.Action)).Inc()
	}
}

// forgetInspections drops the series of inspections that do not exist any more.
func (m *metrics) forgetInspections(exists map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.inspections {
		if !exists[name] {
			delete(m.inspections, name)
			m.alerts.DeletePartialMatch(prometheus.Labels{"inspection": name})
		}
	}
}

// watchLosses asks the signature engines from time to time what they have lost, until ctx ends.
func (a *Agent) watchLosses(ctx context.Context) {
	tick := time.NewTicker(lossesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n := a.plane.Load()
		if n == nil {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, lossesTimeout)
		losses, err := n.SignatureLosses(ask)
		cancel()
		if err != nil {
			a.cfg.Log.V(1).Info("A signature engine does not tell what it has lost", "why", err.Error())
		}
		a.losses.Store(&losses)
	}
}

// lossCollector tells Prometheus of the signature engines.
type lossCollector struct{ agent *Agent }

var (
	lostDesc = prometheus.NewDesc("meerkat_signature_losses_total",
		"What signature engines have not seen or told since they started, by engine and kind: copies (dropped by the meter), packets (dropped since the engine was too slow), alerts (nobody had time for them) and records (which made no sense).",
		[]string{"slot", "mode", "kind"}, nil)
	receivedDesc = prometheus.NewDesc("meerkat_signature_packets_total", "Packets that signature engines took in since they started.",
		[]string{"slot", "mode"}, nil)
	inspectingDesc = prometheus.NewDesc("meerkat_signature_engine_inspecting", "1 while a signature engine inspects, by the rules that it is to run.",
		[]string{"slot", "mode"}, nil)
)

// Describe implements prometheus.Collector.
func (c lossCollector) Describe(out chan<- *prometheus.Desc) {
	out <- lostDesc
	out <- receivedDesc
	out <- inspectingDesc
}

// Collect implements prometheus.Collector.
func (c lossCollector) Collect(out chan<- prometheus.Metric) {
	n := c.agent.plane.Load()
	if n == nil {
		return
	}
	var losses map[string]node.Losses
	if have := c.agent.losses.Load(); have != nil {
		losses = *have
	}
	for _, e := range n.SignatureEngines() {
		slot, mode := strconv.Itoa(int(e.Slot)), string(e.Mode)
		up := 0.0
		if e.Status.Health.Healthy && e.Failed == "" {
			up = 1
		}
		out <- prometheus.MustNewConstMetric(inspectingDesc, prometheus.GaugeValue, up, slot, mode)
		l, ok := losses[e.Profile]
		if !ok {
			continue
		}
		out <- prometheus.MustNewConstMetric(receivedDesc, prometheus.CounterValue, float64(l.Received), slot, mode)
		for kind, count := range map[string]uint64{"copies": l.Copies, "packets": l.Ring, "alerts": l.Alerts, "records": l.Records} {
			out <- prometheus.MustNewConstMetric(lostDesc, prometheus.CounterValue, float64(count), slot, mode, kind)
		}
	}
}
