package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
)

// TestRefusal: what an engine refuses is not tried again as long as it is the same; what may pass is, later and later.
func TestRefusal(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := signatureLoad{hash: "hash", content: "content"}
	home := signatureLoad{hash: "another hash", content: "content"}
	other := signatureLoad{hash: "other", content: "other"}
	bad := fmt.Errorf("no: %w", &engine.LoadError{Failed: []engine.FailedRule{{SID: 9}}})

	var r refusal
	if r.of(want, now) != nil || r.wait(now) != 0 {
		t.Error("nothing was refused yet")
	}
	for name, err := range map[string]error{"a rule": bad, "the combination": fmt.Errorf("%w: twice sid 9", errCombination)} {
		r = refusal{}
		r.note(want, err, 0, now)
		year := now.Add(365 * 24 * time.Hour)
		if !errors.Is(r.of(want, year), err) || r.wait(year) != 0 {
			t.Errorf("%s was refused, and is tried again", name)
		}
		if r.of(other, now) != nil {
			t.Errorf("%s was refused, and others are not tried", name)
		}
		if r.of(home, now.Add(refusedHome-1)) == nil || r.of(home, now.Add(refusedHome)) != nil {
			t.Errorf("%s was refused: other addresses of HOME_NET are to be tried after %s, and not before", name, refusedHome)
		}
		r.forget(other)
		if r.of(want, now) == nil {
			t.Errorf("%s was refused, which is forgotten since others load", name)
		}
	}

	r = refusal{}
	var waits []time.Duration
	for range 7 {
		r.note(want, &engine.LoadError{Reason: "suricata -T: signal: killed"}, 0, now)
		wait := r.wait(now)
		waits = append(waits, wait)
		if r.of(want, now.Add(wait-1)) == nil || r.of(want, now.Add(wait)) != nil {
			t.Errorf("it is to be tried again after %s, and not before", wait)
		}
		now = now.Add(wait)
	}
	if got := fmt.Sprint(waits); got != "[30s 1m0s 2m0s 4m0s 8m0s 10m0s 10m0s]" {
		t.Errorf("want of memory is waited for %s", got)
	}
	r.note(other, context.DeadlineExceeded, 0, now)
	if r.wait(now) != refusedFirst {
		t.Errorf("others wait for %s from the beginning", r.wait(now))
	}
	r.note(other, context.DeadlineExceeded, unreachedWait, now)
	if r.wait(now) != unreachedWait {
		t.Errorf("an engine that is away is asked again after %s", r.wait(now))
	}
	r.forget(other)
	if r.of(other, now) != nil {
		t.Error("what has loaded is refused")
	}
}
