package agent

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meerkat-dev/meerkat/dataplane/node"
)

const (
	// measureEvery is how old what was measured may be when Prometheus asks, and measureTimeout how long it may take to measure anew.
	measureEvery, measureTimeout = 5 * time.Second, 2 * time.Second
)

// measured is what has to be asked for: what the engine of policies counts, and how full conntrack is. Parts that were not told are nil,
// or 0.
type measured struct {
	engine      map[string]any
	used, limit uint64
}

// measurement keeps what was measured last.
type measurement struct {
	mu   sync.Mutex
	last measured
	at   time.Time
}

// measure measures, or gives what was measured a moment ago: several that ask at once share one.
func (a *Agent) measure(n *node.Node) measured {
	m := &a.measurement
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.at) < measureEvery {
		return m.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), measureTimeout)
	defer cancel()
	var now measured
	var err error
	if now.engine, err = n.Engine().Counters(ctx); err != nil {
		a.cfg.Log.V(1).Info("The engine does not tell what it has counted", "why", err.Error())
	}
	if now.used, now.limit, err = n.ConntrackUse(ctx); err != nil {
		a.cfg.Log.V(1).Info("It is not known how full conntrack is", "why", err.Error())
	}
	m.last, m.at = now, time.Now()
	return now
}

// engineCollector tells Prometheus of the engine of policies, and of conntrack. What the engine itself counts begins anew with each of its
// processes.
type engineCollector struct{ agent *Agent }

// engineCounter is one of the engine's own counters.
type engineCounter struct {
	desc *prometheus.Desc
	path [2]string // in the tree that the engine gives
}

var (
	engineCounters = []engineCounter{
		{prometheus.NewDesc("meerkat_engine_connections_total",
			"Connections that the engine has followed; one that two governed Pods of the node have with each other is two.", nil, nil),
			[2]string{"flow", "total"}},
		{prometheus.NewDesc("meerkat_engine_packets_total", "Packets that the engine took in.", nil, nil), [2]string{"decoder", "pkts"}},
		{prometheus.NewDesc("meerkat_engine_bytes_total", "Bytes of the packets that the engine took in.", nil, nil), [2]string{"decoder", "bytes"}},
		{prometheus.NewDesc("meerkat_engine_ring_losses_total",
			"Packets that were lost before the engine, since it did not take them in time. Their senders send them again.", nil, nil),
			[2]string{"capture", "kernel_drops"}},
	}
	engineDropsDesc = prometheus.NewDesc("meerkat_engine_drops_total", "Packets that the engine dropped, by its own word for the reason.",
		[]string{"reason"}, nil)
	probesDesc       = prometheus.NewDesc("meerkat_engine_probes_total", "Probes that were sent through the engine.", nil, nil)
	probesLostDesc   = prometheus.NewDesc("meerkat_engine_probes_lost_total", "Probes that did not come back from the engine in time.", nil, nil)
	probeRTTDesc     = prometheus.NewDesc("meerkat_engine_probe_rtt_seconds", "How long the last probe took that came back from the engine.", nil, nil)
	eventsLostDesc   = prometheus.NewDesc("meerkat_engine_events_lost_total", "Events of the engine for which the agent had no room.", nil, nil)
	verdictsLostDesc = prometheus.NewDesc("meerkat_verdicts_lost_total", "Denials and audits that took effect, and of which nothing is told, since too many came.", nil, nil)
	trackedDesc      = prometheus.NewDesc("meerkat_conntrack_connections", "Connections that conntrack holds, of everybody on the node.", nil, nil)
	trackLimitDesc   = prometheus.NewDesc("meerkat_conntrack_limit", "How many connections conntrack can hold.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c engineCollector) Describe(out chan<- *prometheus.Desc) {
	for _, counter := range engineCounters {
		out <- counter.desc
	}
	for _, d := range []*prometheus.Desc{engineDropsDesc, probesDesc, probesLostDesc, probeRTTDesc, eventsLostDesc, verdictsLostDesc, trackedDesc, trackLimitDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c engineCollector) Collect(out chan<- prometheus.Metric) {
	n := c.agent.plane.Load()
	if n == nil {
		return
	}
	tell := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	s := n.Engine().Status()
	tell(probesDesc, prometheus.CounterValue, float64(s.ProbesSent))
	tell(probesLostDesc, prometheus.CounterValue, float64(s.ProbesLost))
	tell(probeRTTDesc, prometheus.GaugeValue, s.RTT.Seconds())
	tell(eventsLostDesc, prometheus.CounterValue, float64(s.EventsLost))
	tell(verdictsLostDesc, prometheus.CounterValue, float64(n.VerdictsLost()))
	m := c.agent.measure(n)
	for _, counter := range engineCounters {
		if value, ok := number(m.engine, counter.path[0], counter.path[1]); ok {
			tell(counter.desc, prometheus.CounterValue, value)
		}
	}
	ips, _ := m.engine["ips"].(map[string]any)
	reasons, _ := ips["drop_reason"].(map[string]any) // its own words: about twenty, each of which it always tells
	for reason := range reasons {
		if value, ok := number(ips, "drop_reason", reason); ok {
			tell(engineDropsDesc, prometheus.CounterValue, value, reason)
		}
	}
	if m.limit > 0 {
		tell(trackedDesc, prometheus.GaugeValue, float64(m.used))
		tell(trackLimitDesc, prometheus.GaugeValue, float64(m.limit))
	}
}

// number finds a number in a tree of them.
func number(tree map[string]any, branch, leaf string) (float64, bool) {
	b, _ := tree[branch].(map[string]any)
	value, ok := b[leaf].(float64)
	return value, ok
}
