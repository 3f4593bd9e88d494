package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meerkat-dev/meerkat/dataplane/flowexport"
)

// flowCollector tells Prometheus of exports. Their number is bounded, and so that of series: mostFlowExports with eight collectors each.
type flowCollector struct{ flows *flows }

var (
	flowLabels      = []string{"export", "collector"}
	flowRecordsDesc = prometheus.NewDesc("meerkat_flowexport_records_total", "Records that were sent to a collector of a FlowExport.", flowLabels, nil)
	flowLostDesc    = prometheus.NewDesc("meerkat_flowexport_lost_total",
		"Records that were lost, by reason: BufferFull (the collector was away or too slow), TooLarge, or Stopped (the agent ended, or the collector was taken away).",
		[]string{"export", "collector", "reason"}, nil)
	flowBytesDesc = prometheus.NewDesc("meerkat_flowexport_bytes_total", "Bytes of messages that were sent to a collector, templates included.", flowLabels, nil)
	flowUpDesc    = prometheus.NewDesc("meerkat_flowexport_collector_up",
		"1 while a collector takes records, as far as that can be known; over UDP it is known only when datagrams are refused.", flowLabels, nil)
	flowWaitingDesc    = prometheus.NewDesc("meerkat_flowexport_waiting_bytes", "Bytes that wait for a collector.", flowLabels, nil)
	flowReconnectsDesc = prometheus.NewDesc("meerkat_flowexport_reconnects_total", "Connections to a collector after the first.", flowLabels, nil)
	flowFollowedDesc   = prometheus.NewDesc("meerkat_flowexport_connections", "Connections that are followed for FlowExports.", nil, nil)
	flowPollDesc       = prometheus.NewDesc("meerkat_flowexport_poll_seconds", "How long the last read of the switch's connections took.", nil, nil)
	flowMissedDesc     = prometheus.NewDesc("meerkat_flowexport_missed_total",
		"What no collector is told of: connections, of which there are more than can be followed, and denials that came too fast.", []string{"kind"}, nil)
)

// Describe implements prometheus.Collector.
func (c flowCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		flowRecordsDesc, flowLostDesc, flowBytesDesc, flowUpDesc, flowWaitingDesc, flowReconnectsDesc, flowFollowedDesc, flowPollDesc, flowMissedDesc,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c flowCollector) Collect(out chan<- prometheus.Metric) {
	status := c.flows.exporter.Status()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	gauge(flowFollowedDesc, float64(status.Connections))
	gauge(flowPollDesc, status.PollSeconds)
	counter(flowMissedDesc, status.Unfollowed, "connections")
	counter(flowMissedDesc, status.DenialsLost, "denials")
	for i := range status.Collectors {
		to := &status.Collectors[i]
		up := 1.0
		if to.Fault != "" {
			up = 0
		}
		gauge(flowUpDesc, up, to.Config, to.Collector)
		gauge(flowWaitingDesc, float64(to.Waiting), to.Config, to.Collector)
		counter(flowRecordsDesc, to.Sent, to.Config, to.Collector)
		counter(flowBytesDesc, to.Bytes, to.Config, to.Collector)
		counter(flowReconnectsDesc, to.Reconnects, to.Config, to.Collector)
		for _, reason := range flowexport.LossReasons {
			counter(flowLostDesc, to.Lost[reason], to.Config, to.Collector, string(reason))
		}
	}
}
