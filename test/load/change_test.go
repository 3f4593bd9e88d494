package load

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

const (
	changes = 100
	// dwell is how long a policy stays in force, and longDwell how long every tenth does.
	dwell, longDwell = 150 * time.Millisecond, 1300 * time.Millisecond
	// lateness is how long after a change is in force a request may be judged by the policy before it.
	lateness = time.Second
	// Aims for the time from a change to its enforcement.
	aimMedian, aimP99 = 150 * time.Millisecond, 500 * time.Millisecond
)

// changedPolicy always lets clients ask for /public/, and for /toggle in every other version, in one of several ways.
func changedPolicy(version int) (text string, open bool) {
	open = version%2 == 0
	const head = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: L7Policy
metadata: {name: storefront, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - name: pages
    from: [{podSelector: {matchLabels: {role: client}}}]
    ports: [{port: http}]
    l7:
    - http: {methods: [GET], path: {prefix: /public/}}
`
	const entry = "    - http: {methods: [GET], path: {exact: /toggle}}\n"
	rule := func(role, port string) string {
		return fmt.Sprintf("  - name: toggle\n    from: [{podSelector: {matchLabels: {role: %s}}}]\n    ports: [{port: %s}]\n    l7:\n%s", role, port, entry)
	}
	closed := [...]string{"", "", rule("nobody", "http"), rule("client", "9999")}
	opened := [...]string{entry, rule("client", "http"), rule("client", "http"), rule("client", "http")}
	how := version / 2 % len(opened)
	if open {
		return head + opened[how], true
	}
	return head + closed[how], false
}

// change is one change of the policy.
type change struct {
	open              bool
	began, programmed time.Time
}

// TestPolicyChangesUnderLoad changes a policy again and again while clients ask for what it always allows, and for what it allows
// by turns. Each verdict must be that of the policy in force.
func TestPolicyChangesUnderLoad(t *testing.T) {
	opts, resets := labs.Options(t), &resetLog{}
	opts.Log = resets.logger()
	l := testlab.Start(t, opts, "testdata/change.yaml", "testdata/ingress.yaml")
	to := webService(t, l)
	load := &clients{space: enter(t, l, "client"), to: to, stop: make(chan struct{})}
	probes := &clients{space: enter(t, l, "prober"), to: to, stop: make(chan struct{})}
	for range 12 {
		load.start(t, &keptAlive{path: "/public/a"})
		load.start(t, &oneEach{path: "/public/a"})
	}
	for range 4 {
		probes.start(t, &keptAlive{path: "/toggle", mayDeny: true})
		probes.start(t, &oneEach{path: "/toggle", mayDeny: true})
	}
	began := time.Now()
	before, ports := countersNow(t, load.space), countersNow(t, probes.space)
	timeline, steps := changeOften(t, l, probes)
	load.end()
	probes.end()

	t.Logf("%d requests that every version allows: %d failed; %d others", load.asked.Load(), load.failures.Load(), probes.asked.Load())
	if n := load.failures.Load() + probes.failures.Load(); n > 0 {
		t.Errorf("%d requests failed that were allowed, or got no verdict", n)
		t.Logf("the engine: %+v; the nodes: %+v", l.Engine("node-1"), l.Status().Nodes)
		load.blame(t, resets)
		probes.blame(t, resets)
		others := 0
		for _, e := range l.Events(began) {
			if e.HTTP != nil && e.HTTP.Path == "/toggle" {
				continue
			}
			if others++; others <= 20 {
				t.Logf("an event about something else: %+v", e)
			}
		}
	}
	t.Logf("sent again: %+v by the clients, %+v by the probers", countersNow(t, load.space).since(before), countersNow(t, probes.space).since(ports))
	enforced := enforcement(t, timeline, probes.verdicts)
	var applied []time.Duration
	for _, c := range timeline {
		applied = append(applied, c.programmed.Sub(c.began))
	}
	t.Logf("from a change to Programmed: median %s, p99 %s", percentile(applied, 50), percentile(applied, 99))
	t.Logf("from a change to its enforcement, %d changes: median %s, p99 %s (aims: %s and %s)", len(enforced),
		percentile(enforced, 50), percentile(enforced, 99), aimMedian, aimP99)
	t.Logf("median of each part: %s", steps)
}

func changeOften(t *testing.T, l *lab.Lab, probes *clients) ([]change, string) {
	t.Helper()
	time.Sleep(300 * time.Millisecond) // the clients find their pace
	parts := map[string][]time.Duration{}
	var timeline []change
	for version := range changes {
		text, open := changedPolicy(version)
		objects, err := manifests.Read("policy", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		c := change{open: open, began: time.Now()}
		if err := l.Apply(t.Context(), objects); err != nil {
			t.Fatal(err)
		}
		c.programmed = time.Now()
		timeline = append(timeline, c)
		for _, step := range l.Steps("node-1") {
			parts[step.Name] = append(parts[step.Name], step.Took)
		}
		if version%10 == 9 {
			time.Sleep(longDwell)
		} else {
			time.Sleep(dwell)
		}
		if !testlab.Eventually(t.Context(), patience, func() bool { return probes.latest.Load() > c.programmed.UnixNano() }) {
			t.Errorf("change %d: no verdict within %s", version, patience)
		}
	}
	var steps []string
	for name, times := range parts {
		steps = append(steps, fmt.Sprintf("%s %s", name, percentile(times, 50).Round(100*time.Microsecond)))
	}
	slices.Sort(steps)
	return timeline, strings.Join(steps, ", ")
}

// enforcement gives how long each change took from its beginning until the first request was judged by it, and none was judged
// by the policy before any more.
func enforcement(t *testing.T, timeline []change, verdicts []judged) []time.Duration {
	t.Helper()
	var all []time.Duration
	late, latest := 0, time.Duration(0)
	for i, c := range timeline {
		until := time.Now()
		if i+1 < len(timeline) {
			until = timeline[i+1].began
		}
		var firstNew, lastOld time.Time
		for _, v := range verdicts {
			if v.sent.Before(c.began) || v.answered.After(until) {
				continue
			}
			if byNew := (v.verdict == allowed) == c.open; byNew && firstNew.IsZero() || byNew && v.answered.Before(firstNew) {
				firstNew = v.answered
			} else if !byNew && v.sent.After(lastOld) {
				lastOld = v.sent
			}
		}
		if firstNew.IsZero() {
			t.Errorf("change %d: no request was judged by it", i)
			continue
		}
		if by := lastOld.Sub(c.programmed); by > 0 {
			late++
			latest = max(latest, by)
		}
		if lastOld.After(firstNew) {
			firstNew = lastOld
		}
		all = append(all, firstNew.Sub(c.began))
	}
	t.Logf("after %d of %d changes a request that was sent after Programmed was judged by the policy before, at most %s after", late, len(timeline), latest)
	if latest > lateness {
		t.Errorf("a request was judged by an old policy %s after the new one was in force", latest)
	}
	return all
}
