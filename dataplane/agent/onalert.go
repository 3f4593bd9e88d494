package agent

import (
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
)

// onAlert takes in what the node's signature engines tell, one alert at a time.
func (a *Agent) onAlert(e alerts.Event) {
	a.alerts.add(&e)
	a.metrics.alert(&e)
	a.tell(alertLine{"alert", e})
}
