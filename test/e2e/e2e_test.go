// Package e2e tests Meerkat in a real cluster: make e2e.
package e2e

import (
	"testing"

	"github.com/meerkat-dev/meerkat/test/e2e/cluster"
)

// TestMeerkat installs Meerkat, tests it and removes it. The steps come in this order; -run 'TestMeerkat/(Install|Verdicts)' picks
// some, on a cluster that is kept (KEEP=1).
func TestMeerkat(t *testing.T) {
	w := &world{Cluster: cluster.Connect(t)}
	w.prepare(t)
	for _, step := range []struct {
		name string
		run  func(*testing.T, *world)
	}{
		{"Install", install},
		{"Ingress", ingress},
		{"Egress", egress},
		{"Services", services},
		{"FirstPacket", firstPacket},
		{"Signatures", signatures},
		{"Sidecar", sidecars},
		{"Rollout", rollout},
		{"Events", events},
		{"Uninstall", uninstall},
	} {
		t.Run(step.name, func(t *testing.T) { step.run(t, w) })
	}
}
