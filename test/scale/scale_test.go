package scale_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestScale(t *testing.T) {
	w := newWorld(sizes())
	keys := slices.Clone(w.keys)
	slices.Sort(keys)
	if n := len(slices.Compact(keys)); n != w.selectors {
		t.Fatalf("%d distinct selectors, want %d", n, w.selectors)
	}
	t.Logf("%s: %d nodes, %d Pods, %d policies, %d selectors", w.name, w.nodes, w.size.pods, w.size.policies, w.selectors)
	began := time.Now()
	w.create(t)
	reports := newReporters(w)
	reports.create(t)
	t.Logf("the cluster is filled after %.0f s", time.Since(began).Seconds())

	o := observe(t)
	m := startManager(t)
	m.phase(t, "start: every selector has its slices", func() {
		waitFor(t, "slices", time.Minute, func() bool { return o.selectors() == w.selectors })
	})
	m.phase(t, "every node reports: every policy is Ready", func() {
		each(t, w.nodes, func(ctx context.Context, i int) error { return reports.report(ctx, i, 0) })
		o.waitReady(t, w, 2*time.Minute)
	})
	m.phase(t, "nothing happens", func() { idle(t, o) })
	m.phase(t, fmt.Sprintf("%d Pods change, one by one", w.changes), func() { change(t, w, o, 1, w.changes, false) })
	m.phase(t, fmt.Sprintf("%d Pods change at once", w.burst), func() { change(t, w, o, 2, w.burst, true) })
	m.phase(t, fmt.Sprintf("nodes report as fast as they can for %d s", w.floodSeconds), func() { flood(t, w, o, reports) })
	m.phase(t, "every policy changes, nodes report in turn", func() { rollOut(t, w, o, reports) })

	if _, largest := m.memory(t); largest > w.memoryBytes {
		t.Errorf("the manager had %d MB resident, want at most %d", largest>>20, w.memoryBytes>>20)
	}
}

// idle expects that nothing is written, once what was late has come.
func idle(t *testing.T, o *observer) {
	t.Helper()
	time.Sleep(6 * time.Second)
	beforeSlices, beforePolicies := o.counts()
	time.Sleep(4 * time.Second)
	if afterSlices, afterPolicies := o.counts(); afterSlices+afterPolicies > beforeSlices+beforePolicies {
		t.Errorf("%d slices and %d statuses are written though nothing happens", afterSlices-beforeSlices, afterPolicies-beforePolicies)
	}
}

// change gives Pods new addresses and measures how long these take to all slices that they belong in, from before the API server is
// told until a watch tells of them, and how much is written.
func change(t *testing.T, w *world, o *observer, round, count int, atOnce bool) {
	t.Helper()
	before, _ := o.counts()
	asked := make([]time.Time, count)
	touched := 0
	// Pods a prime number apart are of different nodes, namespaces and apps.
	pod := func(i int) int { return i * 7 % len(w.pods) }
	set := func(ctx context.Context, i int) error {
		asked[i] = time.Now()
		return w.setAddress(ctx, pod(i), round)
	}
	if atOnce {
		each(t, count, set)
	}
	var delays, ours []time.Duration
	for i := range count {
		if !atOnce {
			must(t, set(t.Context(), i))
			time.Sleep(20 * time.Millisecond)
		}
		touched += w.slicesOf(t, pod(i))
	}
	for i := range count {
		want := w.slicesOf(t, pod(i))
		waitFor(t, "a Pod's address in its slices", 30*time.Second, func() bool {
			told, in := o.arrivals(address(pod(i), round))
			return !told.IsZero() && len(in) == want
		})
		told, in := o.arrivals(address(pod(i), round))
		for _, at := range in {
			delays, ours = append(delays, at.Sub(asked[i])), append(ours, at.Sub(told))
		}
	}
	after, _ := o.counts()
	p50, p99, most := percentiles(delays)
	t.Logf("  Pod change to slice: p50 %d ms, p99 %d ms, at most %d ms; %d changes touch %d slices: %d writes, %.2f for each slice touched",
		p50.Milliseconds(), p99.Milliseconds(), most.Milliseconds(), count, touched, after-before, float64(after-before)/float64(touched))
	p50, ownP99, most := percentiles(ours)
	t.Logf("  of this, after the API server has told of the Pod: p50 %d ms, p99 %d ms, at most %d ms",
		p50.Milliseconds(), ownP99.Milliseconds(), most.Milliseconds())
	// What changes at once takes as long as the API server needs to write it, and is only told.
	if !atOnce && p99.Seconds() > w.p99Seconds {
		t.Errorf("p99 from a Pod's change to its slices is %s, want at most %.0f s", p99, w.p99Seconds)
	}
	if after-before > touched {
		t.Errorf("%d writes for %d slices touched", after-before, touched)
	}
}

// percentiles sorts.
func percentiles(all []time.Duration) (p50, p99, most time.Duration) {
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100], all[len(all)-1]
}

// flood has nodes report as fast as they can. Nothing turns, and counts are written once a minute.
func flood(t *testing.T, w *world, o *observer, reports *reporters) {
	t.Helper()
	_, before := o.counts()
	written := reports.flood(t, time.Duration(w.floodSeconds)*time.Second)
	_, after := o.counts()
	minutes := w.floodSeconds/60 + 1
	t.Logf("  %d reports (%.0f a second): %d writes of statuses, %.0f a minute", written, float64(written)/float64(w.floodSeconds),
		after-before, 60*float64(after-before)/float64(w.floodSeconds))
	if most := minutes * len(w.policies); after-before > most {
		t.Errorf("%d statuses are written in %d s, want at most %d: each once a minute", after-before, w.floodSeconds, most)
	}
}

// rollOut changes all policies and has the nodes take that up one after the other, over ten seconds.
func rollOut(t *testing.T, w *world, o *observer, reports *reporters) {
	t.Helper()
	_, before := o.counts()
	each(t, len(w.policies), func(ctx context.Context, i int) error {
		p := w.policies[i]
		return retry.RetryOnConflict(retry.DefaultBackoff, func() error { // with the manager, which writes statuses
			if err := cluster.Client.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
				return err
			}
			p.Spec.Ingress[0].L7[0].HTTP.Methods = []string{"GET", "HEAD"}
			return cluster.Client.Update(ctx, p)
		})
	})
	const steps = 20
	for step := range steps {
		each(t, w.nodes/steps, func(ctx context.Context, i int) error { return reports.report(ctx, i*steps+step, 1000) })
		time.Sleep(500 * time.Millisecond)
	}
	o.waitReady(t, w, time.Minute)
	_, after := o.counts()
	written := after - before - len(w.policies)
	t.Logf("  %d policies change, %d nodes report over %d s: %d writes of statuses, %.1f for each policy", len(w.policies), w.nodes, steps/2,
		written, float64(written)/float64(len(w.policies)))
	if most := 6 * len(w.policies); written > most {
		t.Errorf("%d statuses are written, want at most %d: two turns, and progress every five seconds", written, most)
	}
}
