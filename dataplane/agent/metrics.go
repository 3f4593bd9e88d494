package agent

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// mostLabelled bounds how many policies have a time series of their own; what further ones deny is counted as "other".
const mostLabelled = 500

// metrics are what the agent tells Prometheus.
type metrics struct {
	registry *prometheus.Registry
	syncs    *prometheus.CounterVec
	duration prometheus.Histogram
	verdicts *prometheus.CounterVec
	alerts   *prometheus.CounterVec
	delay    prometheus.Histogram
	loads    *prometheus.HistogramVec

	mu       sync.Mutex
	labelled map[string]bool
	// inspections are those that have time series of their own.
	inspections map[string]bool
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		syncs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meerkat_syncs_total", Help: "Syncs of the node with what the API server says, by result: success or error.",
		}, []string{"result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "meerkat_sync_duration_seconds", Help: "How long Syncs took.", Buckets: prometheus.ExponentialBuckets(0.002, 2, 14),
		}),
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meerkat_verdicts_total", Help: "Requests and connections that were denied, or would have been (audit), by policy. Of more than 500 policies the rest is \"other\".",
		}, []string{"policy", "verdict"}),
		alerts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meerkat_alerts_total", Help: "Alerts of inspections, by severity (high, medium, low) and what became of the packet (alerted, dropped). Of more than 500 inspections the rest is \"other\".",
		}, []string{"inspection", "severity", "action"}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "meerkat_change_delay_seconds", Help: "Time from the agent's first notice of a change in the cluster to its being in force on the node.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
		loads: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "meerkat_rules_load_duration_seconds", Help: "How long it took to make other rules current, by engine (policies, signatures) and result (success, error).",
			Buckets: prometheus.ExponentialBuckets(0.05, 2, 12),
		}, []string{"engine", "result"}),
		labelled: map[string]bool{}, inspections: map[string]bool{},
	}
	m.registry.MustRegister(m.syncs, m.duration, m.verdicts, m.alerts, m.delay, m.loads, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observe adds what is read from the agent whenever it is asked for.
func (m *metrics) observe(a *Agent) {
	m.registry.MustRegister(lossCollector{a}, engineCollector{a})
	gauge := func(name, help string, value func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	counter := func(name, help string, value func() float64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
	}
	gauge("meerkat_governed_pods", "Pods of the node that are behind the bridge.", func() float64 {
		if s := a.latest.Load(); s != nil {
			return float64(governed(s))
		}
		return 0
	})
	gauge("meerkat_engine_inspecting", "1 while packets of inspected connections come back from the engine.", func() float64 {
		if n := a.plane.Load(); n != nil && n.EngineHealth().Healthy {
			return 1
		}
		return 0
	})
	counter("meerkat_engine_restarts_total", "Restarts of the engine.", func() float64 {
		if n := a.plane.Load(); n != nil {
			return float64(n.Engine().Status().Restarts)
		}
		return 0
	})
	counter("meerkat_flow_repairs_total", "Times that somebody else changed the bridge's flows, and they were put back.", func() float64 {
		if n := a.plane.Load(); n != nil {
			return float64(n.Bridge().Overwritten)
		}
		return 0
	})
	counter("meerkat_switch_restarts_total", "Times that the switch was gone and came back.", func() float64 {
		if n := a.plane.Load(); n != nil {
			return float64(n.Bridge().Restarts)
		}
		return 0
	})
	m.registry.MustRegister(a.outputs.forwarder, clientCollector{a}, flowCollector{a.flows})
	counter("meerkat_capture_packets_lost_total", "Packets of inspections with capture that came too fast to be kept.", a.capturePacketsLost)
}

func (m *metrics) synced(took time.Duration, err error) {
	m.duration.Observe(took.Seconds())
	if err != nil {
		m.syncs.WithLabelValues("error").Inc()
		return
	}
	m.syncs.WithLabelValues("success").Inc()
}

// loadsOf counts the loads of rules of a kind of engine: policies or signatures.
func (m *metrics) loadsOf(kind string) func(engine.Loaded, error) {
	return func(l engine.Loaded, err error) {
		result := "success"
		if err != nil {
			result = "error"
		}
		m.loads.WithLabelValues(kind, result).Observe(l.Took.Seconds())
	}
}

func (m *metrics) verdict(e verdict.Event) {
	if e.Verdict != verdict.Deny && e.Verdict != verdict.Audit {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, policy := range e.Policies {
		if !m.labelled[policy] && len(m.labelled) >= mostLabelled {
			policy = "other"
		} else {
			m.labelled[policy] = true
		}
		m.verdicts.WithLabelValues(policy, string(e.Verdict)).Inc()
	}
}

// forget drops the series of policies that do not exist any more.
func (m *metrics) forget(exists map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for policy := range m.labelled {
		if !exists[policy] {
			delete(m.labelled, policy)
			m.verdicts.DeletePartialMatch(prometheus.Labels{"policy": policy})
		}
	}
}
