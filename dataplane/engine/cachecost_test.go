package engine

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
	"github.com/meerkat-dev/meerkat/dataplane/signatures/feedtest"
)

// TestCostOfCache measures in pairs what it takes of a processor, with and without what was compiled before: a start, a load of other rules,
// and one of the same rules for another HOME_NET. docs/signatures.md has the figures.
func TestCostOfCache(t *testing.T) {
	if os.Getenv("MEERKAT_COST") == "" {
		t.Skip("measures for minutes: set MEERKAT_COST=1")
	}
	const n, rounds = 3000, 3
	rules := func(seed uint64, home string) Rules {
		vars, err := signatures.Variables(v1alpha1.RuleVariables{}, v1alpha1.RuleVariables{}, []netip.Prefix{netip.MustParsePrefix(home)}).YAML()
		if err != nil {
			t.Fatal(err)
		}
		return Rules{Detect: feedtest.Rules(seed, n), Variables: vars}
	}
	net := newTestNet(t)
	took := map[string][]float64{}
	for round := range rounds {
		for _, cached := range []bool{false, true} {
			cfg := net.config(t)
			cfg.Kind, cfg.B, cfg.Agent, cfg.Slot = Detect, "", "", 1
			cfg.Settings = []string{fmt.Sprintf("detect: {sgh-mpm-caching: %t}", cached)}
			note := func(what string, f func() int) {
				before := childrenTime()
				engine := f()
				took[fmt.Sprintf("%s, cache %t", what, cached)] = append(took[fmt.Sprintf("%s, cache %t", what, cached)],
					(childrenTime()-before).Seconds()+time.Duration(engine).Seconds())
			}
			e := newStarted(t, cfg)
			load := func(r Rules) int {
				was := processorTime(t, enginePID(t, e))
				if _, err := e.Load(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				return int(processorTime(t, enginePID(t, e)) - was)
			}
			note("first load", func() int { return load(rules(uint64(10+round), "10.0.0.0/8")) })
			note("other rules", func() int { return load(rules(uint64(20+round), "10.0.0.0/8")) })
			note("other HOME_NET", func() int { return load(rules(uint64(20+round), "10.1.0.0/30")) })
			if err := e.Stop(context.Background()); err != nil {
				t.Fatal(err)
			}
			e = nil
			note("start", func() int {
				e = newStarted(t, cfg)
				return int(processorTime(t, enginePID(t, e)))
			})
			if err := e.Stop(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, what := range []string{"first load", "other rules", "other HOME_NET", "start"} {
		a, b := took[what+", cache false"], took[what+", cache true"]
		slices.Sort(a)
		slices.Sort(b)
		t.Logf("| %s | %.1f (%.1f–%.1f) | %.1f (%.1f–%.1f) |", what, a[rounds/2], a[0], a[rounds-1], b[rounds/2], b[0], b[rounds-1])
	}
}

// childrenTime is what processes took that have ended, and that this one has waited for.
func childrenTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_CHILDREN, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
