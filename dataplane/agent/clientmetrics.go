package agent

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// clientCollector reads how many packets from the node's own addresses were asked for, whoever has sent them.
type clientCollector struct{ agent *Agent }

var clientLookups = prometheus.NewDesc("meerkat_client_lookups_total",
	"Packets from the node's own addresses to governed ports, by what became of the question who has sent them: client (one behind the node), "+
		"node (the node itself), unknown (dropped) or refused (more than may be asked for in a second; dropped).", []string{"result"}, nil)

// clientTimeout bounds the wait for the switch.
const clientTimeout = 2 * time.Second

func (c clientCollector) Describe(to chan<- *prometheus.Desc) { to <- clientLookups }

func (c clientCollector) Collect(to chan<- prometheus.Metric) {
	n := c.agent.plane.Load()
	if n == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	l, err := n.ClientLookups(ctx)
	counts := map[string]uint64{"client": l.Found, "node": l.Own, "unknown": l.Dropped}
	if err == nil {
		counts["refused"] = l.Refused
	}
	for result, n := range counts {
		to <- prometheus.MustNewConstMetric(clientLookups, prometheus.CounterValue, float64(n), result)
	}
}
