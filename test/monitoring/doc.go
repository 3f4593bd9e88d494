// Package monitoring tests the alerts and the dashboard that come with Meerkat, with Prometheus' own promtool. That the metrics in their
// queries are those of an agent at work, test/agent shows.
package monitoring
