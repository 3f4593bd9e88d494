package node

import (
	"errors"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

// errCombination says that revisions do not go together, each of which is good by itself.
var errCombination = errors.New("these rule sets cannot be loaded into one engine")

// Refused tells whether an error of Report.Signatures says that rules are no good, and whether the same rules stay so: a lack of memory or
// of time may pass.
func Refused(err error) (refused, lasting bool) {
	if errors.Is(err, errCombination) {
		return true, true
	}
	e, refused := errors.AsType[*engine.LoadError](err)
	return refused, refused && len(e.Failed) > 0
}

// refusal remembers what an engine did not load, and why. Each attempt with many rules takes a processor for half a minute: the same is not
// tried again, unless it may do better then.
type refusal struct {
	want signatureLoad
	err  error
	// until is when the next attempt may be made, and pause how long it was waited for; zero for never, as long as nothing changes.
	until time.Time
	pause time.Duration
	at    time.Time
}

const (
	// refusedFirst and refusedMost bound the pause after an attempt that another may better.
	refusedFirst, refusedMost = 30 * time.Second, 10 * time.Minute
	// refusedHome is how long lasting refusals hold for other addresses of HOME_NET, too: it is hardly ever these that the engine refuses.
	refusedHome = 10 * time.Minute
)

// of says why a load is not tried now; nil when it is to be.
func (r *refusal) of(want signatureLoad, now time.Time) error {
	switch {
	case r.err == nil || r.want.content != want.content:
		return nil
	case !r.until.IsZero() && !now.Before(r.until):
		return nil
	case r.until.IsZero() && r.want.hash != want.hash && now.Sub(r.at) >= refusedHome:
		return nil
	}
	return r.err
}

// wait is how long it is until the next attempt; 0 for never, and for nothing to wait for.
func (r *refusal) wait(now time.Time) time.Duration {
	if r.err == nil || r.until.IsZero() {
		return 0
	}
	return max(r.until.Sub(now), time.Millisecond)
}

// note takes in a load that came to nothing; away is how long to wait where the engine was not there, and else 0.
func (r *refusal) note(want signatureLoad, err error, away time.Duration, now time.Time) {
	before := *r
	*r = refusal{want: want, err: err, at: now}
	switch _, lasting := Refused(err); {
	case lasting:
		return
	case away > 0:
		r.until = now.Add(away)
		return
	}
	r.pause = refusedFirst
	if before.want.content == want.content && before.pause > 0 {
		r.pause = min(2*before.pause, refusedMost)
	}
	r.until = now.Add(r.pause)
}

// forget takes in a load that succeeded.
func (r *refusal) forget(loaded signatureLoad) {
	if r.want.content == loaded.content {
		*r = refusal{}
	}
}

// Waits until the next attempt to load rules into an engine that is away: one that cannot be reached costs nothing, while one that does not
// start may have taken a processor for seconds.
const (
	unreachedWait = time.Second
	brokenWait    = 5 * time.Second
)

// signaturesAway tells that a load came to nothing since there is no engine yet, or not any more, so that its rules wait for it: the time
// until the next attempt, and else 0.
func (n *Node) signaturesAway(e *signatureEngine, l *backgroundLoad) time.Duration {
	switch {
	case errors.Is(l.err, launcher.ErrUnreachable):
		return unreachedWait
	case !l.started || n.cfg.SignatureLaunchers != "" && e.engine.Status().PID == 0:
		return brokenWait
	default:
		return 0
	}
}
