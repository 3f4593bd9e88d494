package l7policy

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

// metrics tell how much is written and what it costs to judge all policies.
type metrics struct {
	writes prometheus.Counter
	pass   prometheus.Histogram
}

// newMetrics registers the metrics with controller-runtime's registry, or finds those that are registered.
func newMetrics() (*metrics, error) {
	m := &metrics{
		writes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "meerkat_l7policy_status_writes_total",
			Help: "Writes of the status of L7Policies to the API server.",
		}),
		pass: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "meerkat_l7policy_pass_seconds",
			Help:    "Time that it takes to judge all policies over the whole cluster, in seconds.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
	}
	var err error
	if m.writes, err = register(m.writes); err != nil {
		return nil, err
	}
	m.pass, err = register(m.pass)
	return m, err
}

func register[C prometheus.Collector](c C) (C, error) {
	err := ctrlmetrics.Registry.Register(c)
	if known, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return known.ExistingCollector.(C), nil
	}
	return c, err
}
