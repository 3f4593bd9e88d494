package addressslice

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

// metrics tell how much is written and how long changes wait.
type metrics struct {
	writes *prometheus.CounterVec
	delay  prometheus.Histogram
}

// newMetrics registers the metrics with controller-runtime's registry, or finds those that are registered.
func newMetrics() (*metrics, error) {
	m := &metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meerkat_addressslice_writes_total",
			Help: "Writes of AddressSlices to the API server, by operation: create, update or delete.",
		}, []string{"operation"}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "meerkat_addressslice_delay_seconds",
			Help:    "Time from the manager's first notice of a change to its being written to AddressSlices, in seconds.",
			Buckets: []float64{.05, .1, .15, .2, .3, .5, .75, 1, 2, 5, 10, 30},
		}),
	}
	var err error
	if m.writes, err = register(m.writes); err != nil {
		return nil, err
	}
	m.delay, err = register(m.delay)
	return m, err
}

func register[C prometheus.Collector](c C) (C, error) {
	err := ctrlmetrics.Registry.Register(c)
	if known, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return known.ExistingCollector.(C), nil
	}
	return c, err
}
