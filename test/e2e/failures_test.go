package e2e

import (
	"os"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/test/e2e/cluster"
)

// TestFailures kills each part of Meerkat and the API server ten times under load, and lets a stranger write to the bridge: make
// e2e-failure. It uses Meerkat as it is installed, or installs it, and leaves it installed.
func TestFailures(t *testing.T) {
	if os.Getenv("MEERKAT_E2E_FAILURES") != "1" {
		t.Skip("this takes six minutes of its own: run make e2e-failure")
	}
	w := &world{Cluster: cluster.Connect(t)}
	if !w.CanReachNodes() {
		t.Skip("MEERKAT_E2E_NODE_EXEC is not set: nothing can be killed from the node's side")
	}
	f := newFailures(t, w)
	f.start(t)
	f.unguarded(t)
	stale := f.govern(t)
	f.settled(t)
	time.Sleep(2 * time.Second) // for what was sent before, and for the servers' logs
	t.Cleanup(func() { f.report(t) })
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"Undisturbed", f.undisturbed},
		{"FlowsOverwritten", func(t *testing.T) { f.overwrite(t, stale) }},
		{"Deaths", f.deaths},
		{"WithoutAPIServer", f.withoutAPIServer},
		{"Recovered", f.recovered},
	} {
		if !t.Run(step.name, step.run) && f.broken {
			return
		}
	}
}
