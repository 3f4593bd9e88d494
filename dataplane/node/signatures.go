package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// signatureEngine is the engine of one profile. What is not atomic is guarded by Node.mu.
type signatureEngine struct {
	key   string
	slot  uint8
	mode  v1alpha1.InspectionMode
	ports openflow.SignaturePorts
	// engine is nil until it is made. It starts in the background, as the first part of a load. asks are what it wants done by who has the
	// lock and waits for it.
	engine *engine.Engine
	asks   chan func()
	// started is when a Sync saw that it has started, and stop ends what follows its health; both are zero before.
	started time.Time
	stop    context.CancelFunc

	loaded signatureLoad
	// loading is the load that is under way, or has ended and was not taken in yet; nil for none.
	loading *backgroundLoad
	refusal refusal
	// sets are the rule sets of each signature, for events.
	sets atomic.Pointer[map[signatureNumber][]alerts.RuleSet]
	// failed is why it does not run the profile's present rules.
	failed error
	// bad counts records that make no sense, lost those that nobody had time for.
	bad, lost atomic.Uint64
}

type signatureNumber struct{ gid, sid uint32 }

// detectNice is the niceness of engines that detect: the Pods' own traffic, and the engines that it waits for, come first.
const detectNice = 10

// queuedAlert is a record that waits for its event.
type queuedAlert struct {
	profile string
	record  alerts.Record
}

// waitingAlerts is how many records wait for their events before further ones are lost, and counted.
const waitingAlerts = 8192

// signatureEngines are a node's. The map is guarded by Node.mu.
type signatureEngines struct {
	engines map[string]*signatureEngine // by profile
	queue   chan queuedAlert
	names   atomic.Pointer[alerts.Directory]
	// known are the engines again, for events, which must not wait for a Sync.
	known sync.Map
	// swept tells that nothing is left of profiles of an earlier run.
	swept bool
	// again is the Sync that follows a change that had to wait.
	again   *time.Timer
	againAt time.Time
	// loads are those in the background.
	loads sync.WaitGroup
	// views are what was last said of the engines.
	views atomic.Pointer[[]signatureView]
}

func newSignatures() *signatureEngines {
	return &signatureEngines{engines: map[string]*signatureEngine{}, queue: make(chan queuedAlert, waitingAlerts)}
}

// ensureSignatures makes every profile of the plan run its present rules, or begins to: loads go on in the background, and are waited for
// for a short while only. The errors are by profile, among them those that wrap ErrLoading; one that fails does not hold up the others,
// and what it ran before goes on.
func (n *Node) ensureSignatures(ctx context.Context, s plan.Snapshot, p *plan.NodePlan, numbers ledger.Numbers) map[string]error {
	began := map[string]error{}
	for i := range p.Profiles {
		profile := &p.Profiles[i]
		e := n.signatureEngineOf(ctx, profile, numbers.Slots[profile.Key])
		began[profile.Key] = n.beginLoad(ctx, e, s, profile)
	}
	failed := map[string]error{}
	for i := range p.Profiles {
		profile := &p.Profiles[i]
		e := n.signatures.engines[profile.Key]
		n.awaitLoad(ctx, e)
		n.takeLoad(e)
		was := e.failed
		if e.failed = began[e.key]; e.failed == nil {
			e.failed = e.lacks(profile)
		}
		if wait := e.refusal.wait(time.Now()); e.failed != nil && wait > 0 {
			n.syncAgain(wait)
		}
		if errors.Is(e.failed, ErrLoading) && e.loading == nil {
			n.syncAgain(10 * time.Millisecond) // another load has just ended
		}
		if e.failed != nil {
			failed[e.key] = e.failed
			if was == nil || was.Error() != e.failed.Error() {
				n.cfg.Log.Error(e.failed, "A signature engine does not do what it should", "inspections", profile.Inspections)
			}
		}
		if n.inherited && e.mode == v1alpha1.InspectionPrevent {
			n.takeUpSignatures(ctx, e)
		}
	}
	return failed
}

// signatureEngineOf gives the engine of a profile, which may have to be made.
func (n *Node) signatureEngineOf(ctx context.Context, profile *plan.Profile, slot uint8) *signatureEngine {
	if e := n.signatures.engines[profile.Key]; e != nil && e.slot == slot {
		return e
	}
	for key, other := range n.signatures.engines { // an engine that had the slot before makes room
		if other.slot == slot || key == profile.Key {
			if err := n.endSignatures(ctx, other); err != nil {
				n.cfg.Log.Error(err, "A signature engine does not make room for another", "slot", slot)
			}
		}
	}
	e := &signatureEngine{key: profile.Key, slot: slot, mode: profile.Mode}
	n.signatures.engines[profile.Key] = e
	return e
}

// lacks says why an engine does not run a profile's present rules; nil when it does, or is to wait for Pods that come and go.
func (e *signatureEngine) lacks(profile *plan.Profile) error {
	want := loadOf(profile)
	switch refused := e.refusal.of(want, time.Now()); {
	case e.loading != nil:
		return e.loadingError(profile)
	case e.loaded.hash == want.hash:
		return nil
	case refused != nil:
		return refused
	case e.loaded.content == want.content:
		return nil // HOME_NET settles
	}
	return e.loadingError(profile) // the load before has just ended, and the next Sync begins another
}

// ErrLoading says that an engine is loading rules, which takes its time: what it ran before goes on meanwhile.
var ErrLoading = errors.New("the engine is loading the rules")

func (e *signatureEngine) loadingError(profile *plan.Profile) error {
	meanwhile := "until it has them, the rules before stay in force"
	switch {
	case e.loaded.hash != "":
	case e.mode == v1alpha1.InspectionPrevent && profile.FailOpen:
		meanwhile = "until it has them, connections pass without it, as failurePolicy says"
	case e.mode == v1alpha1.InspectionPrevent:
		meanwhile = "until it has them, connections are dropped, as failurePolicy says"
	default:
		meanwhile = "until it has them, nobody looks at the traffic"
	}
	since := time.Now()
	if e.loading != nil {
		since = e.loading.began
	}
	return fmt.Errorf("%w of %v since %s; %s", ErrLoading, profile.Inspections, since.UTC().Format(time.RFC3339), meanwhile)
}

// signatureFaults are what is wrong with engines that have all the same what the plan says, or are about to.
func (n *Node) signatureFaults() map[string]error {
	failed := map[string]error{}
	for key, e := range n.signatures.engines {
		if e.failed != nil {
			failed[key] = e.failed
		}
	}
	return failed
}

// signaturesHold tells whether every engine has what the plan says, or loads it.
func (n *Node) signaturesHold(p *plan.NodePlan) bool {
	if len(n.signatures.engines) != len(p.Profiles) {
		return false
	}
	for i := range p.Profiles {
		e := n.signatures.engines[p.Profiles[i].Key]
		if e == nil || !e.holds(loadOf(&p.Profiles[i])) {
			return false
		}
	}
	return true
}

func (e *signatureEngine) holds(want signatureLoad) bool {
	if l := e.loading; l != nil {
		seen := !e.started.IsZero() || !isClosed(l.up)
		return seen && !isClosed(l.done) && l.want.content == want.content
	}
	return e.failed == nil && e.loaded.hash == want.hash
}

// takeUpWait is how long an engine of an earlier run may take until its first probe comes back.
const takeUpWait = time.Second

// takeUpSignatures waits until an engine that an earlier run has left inspects, so that the first flows of this run lead to it as those do
// that are there now.
func (n *Node) takeUpSignatures(ctx context.Context, e *signatureEngine) {
	if e.started.IsZero() || e.loaded.hash == "" {
		e.ports.Up = false
		return
	}
	for !e.engine.Health().Healthy && time.Since(e.started) < takeUpWait && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	e.ports.Up = n.signaturesInspect(e)
}
