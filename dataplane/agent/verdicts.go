package agent

import (
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// onVerdict takes in what the node tells of one request or connection.
func (a *Agent) onVerdict(e verdict.Event) {
	a.counters.add(e)
	a.metrics.verdict(e)
	a.flows.denied(&e)
	if e.Verdict != verdict.Allow { // which only exports ask for
		a.tell(verdictLine{"verdict", e})
	}
}
