package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// A load of 40,000 rules takes half a minute of a processor, and so does the start of an engine with them. Neither may hold up the node's
// policies and Pods. So both go on in the background, for each engine by itself, and a Sync takes in what became of them.

// signatureLoad is what a signature engine has loaded.
type signatureLoad struct {
	// hash is that of revisions, variables and home; content that of the former two. Both are empty before the first load.
	hash, content string
	at            time.Time
	// ruleSets are the revisions.
	ruleSets []plan.SignatureRef
}

// backgroundLoad starts an engine, unless that was done, and has it load rules.
type backgroundLoad struct {
	want  signatureLoad
	began time.Time
	stop  context.CancelFunc
	// superseded tells that other rules are wanted by now; guarded by Node.mu.
	superseded bool
	// startOnly tells that nothing is loaded.
	startOnly bool
	// up is closed once the engine has been started, or could not be, and done when the load is over.
	up, done chan struct{}

	// Valid once up is closed: whether the engine has started, and what it has loaded already.
	started bool
	former  signatureLoad
	// Valid once done is closed.
	sets *map[signatureNumber][]alerts.RuleSet
	at   time.Time
	err  error
}

const (
	// homeSettles is how long after a load further Pods that come and go wait for theirs: with many rules, a load takes seconds of a
	// processor. Until then their traffic is inspected by rules that say any, and not by those that say $HOME_NET.
	homeSettles = 5 * time.Second
	// loadPatience is how long after its beginning a Sync waits for a load, so that small ones are over when a Sync is.
	loadPatience = time.Second
)

func loadOf(profile *plan.Profile) signatureLoad {
	hash := func(v ...any) string {
		text, _ := json.Marshal(v) // plain data
		sum := sha256.Sum256(text)
		return hex.EncodeToString(sum[:])
	}
	return signatureLoad{
		hash: hash(profile.RuleSets, profile.Variables, profile.Home), content: hash(profile.RuleSets, profile.Variables), ruleSets: profile.RuleSets,
	}
}

// beginLoad begins what there is to load. Another load that is under way is given up as far as that is possible, should it be of other
// rules, and else goes on: a Sync follows it.
func (n *Node) beginLoad(ctx context.Context, e *signatureEngine, s plan.Snapshot, profile *plan.Profile) error {
	want := loadOf(profile)
	n.takeLoad(e)
	if e.loading != nil {
		if e.loading.want.content != want.content && !e.loading.startOnly {
			e.loading.superseded = true
			e.loading.stop()
		}
		return nil
	}
	if e.engine != nil && e.loaded.hash == want.hash && e.sets.Load() != nil {
		return nil
	}
	if wait := homeSettles - time.Since(e.loaded.at); e.loaded.content == want.content && wait > 0 {
		n.syncAgain(wait)
		return nil
	}
	if e.refusal.of(want, time.Now()) != nil {
		return nil
	}
	revisions, err := revisionsOf(s, profile)
	if err != nil {
		return err
	}
	if e.engine == nil {
		if err := n.makeSignatures(ctx, e, profile); err != nil {
			return err
		}
	}
	n.startLoad(e, want, func(ctx context.Context, made *engine.Engine, l *backgroundLoad) error {
		return n.loadInto(ctx, made, e.slot, l, profile, revisions)
	})
	return nil
}

// startLoad has an engine start, unless it has, and then load what is wanted, in the background; load is nil for nothing.
func (n *Node) startLoad(e *signatureEngine, want signatureLoad, load func(context.Context, *engine.Engine, *backgroundLoad) error) {
	ctx, stop := context.WithCancel(n.background)
	l := &backgroundLoad{want: want, startOnly: load == nil, began: time.Now(), stop: stop, up: make(chan struct{}), done: make(chan struct{})}
	e.loading = l
	changed := func() { time.AfterFunc(0, func() { n.loadChanged(e, l) }) } // which the lock is waited for
	made, slot, first := e.engine, e.slot, e.started.IsZero()
	n.signatures.loads.Go(func() {
		defer stop()
		defer changed()
		defer close(l.done)
		if first {
			l.err = made.Start(ctx)
		}
		if l.started = l.err == nil; l.started && first {
			l.former = n.readLoaded(slot, made.Status().Loaded.Hash)
		}
		close(l.up)
		changed()
		if l.started && load != nil {
			l.err = load(ctx, made, l)
		}
	})
}

// loadInto makes one file of the profile's rules and has the engine load it.
func (n *Node) loadInto(ctx context.Context, made *engine.Engine, slot uint8, l *backgroundLoad, profile *plan.Profile, revisions []plan.SignatureRevision) error {
	merged, variables, err := profileRules(revisions, profile)
	if err != nil {
		return err
	}
	rules := engine.Rules{Detect: merged.Rules, Variables: variables}
	if profile.Mode == v1alpha1.InspectionPrevent {
		rules.Detect = append([]byte(engine.ProbeRule), rules.Detect...)
	}
	loaded, err := made.Load(ctx, rules)
	if err != nil {
		return fmt.Errorf("the signatures of %v are not in force as they are: %w", profile.Inspections, err)
	}
	l.sets, l.at = signatureSets(profile, merged), time.Now()
	n.writeLoaded(slot, loaded.Hash, l)
	return nil
}

// awaitLoad waits for a load for a short while.
func (n *Node) awaitLoad(ctx context.Context, e *signatureEngine) {
	l := e.loading
	if l == nil {
		return
	}
	patience := time.NewTimer(loadPatience - time.Since(l.began))
	defer patience.Stop()
	for {
		select {
		case <-l.done:
			return
		case f := <-e.asks:
			f()
		case <-patience.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// takeLoad takes in how far a load has come.
func (n *Node) takeLoad(e *signatureEngine) {
	l := e.loading
	if l == nil || !isClosed(l.up) {
		return
	}
	if l.started && e.started.IsZero() {
		n.followStarted(e)
		if l.former.hash != "" {
			e.loaded = l.former
		}
	}
	if !isClosed(l.done) {
		return
	}
	e.loading = nil
	switch {
	case l.startOnly:
	case l.err == nil:
		e.loaded = l.want
		e.loaded.at = l.at
		e.sets.Store(l.sets)
		e.refusal.forget(l.want)
		n.cfg.Log.Info("A signature engine has loaded rules", "slot", e.slot, "rules", len(*l.sets), "took", l.at.Sub(l.began).Round(time.Millisecond).String())
		return
	case l.superseded:
	default:
		e.refusal.note(l.want, l.err, n.signaturesAway(e, l), time.Now())
	}
	if !l.started {
		_ = e.engine.Stop(n.background) // it has no process, and is made anew
		e.engine = nil
	}
}

// loadChanged has another Sync take in what became of a load, unless one has done so.
func (n *Node) loadChanged(e *signatureEngine, l *backgroundLoad) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.loading != l || n.background.Err() != nil || !isClosed(l.done) && !e.started.IsZero() {
		return
	}
	switch {
	case n.snapshot == nil:
		n.settleInherited(e)
	case n.cfg.Again != nil:
		n.cfg.Again()
	default:
		n.doLastAgain()
	}
}

// syncAgain makes the last Sync again after a while, or sooner where that was asked for before; the caller has the lock.
func (n *Node) syncAgain(after time.Duration) {
	at := time.Now().Add(after)
	if n.signatures.again != nil {
		if n.signatures.againAt.Before(at) {
			return
		}
		n.signatures.again.Stop()
	}
	n.signatures.againAt = at
	n.signatures.again = time.AfterFunc(after, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.signatures.againAt.Equal(at) {
			n.signatures.again = nil
			n.doLastAgain()
		}
	})
}

// doLastAgain has the lock.
func (n *Node) doLastAgain() {
	if n.background.Err() != nil || n.snapshot == nil {
		return
	}
	if _, err := n.sync(n.background, *n.snapshot); err != nil {
		n.cfg.Log.Error(err, "A Sync that was put off failed")
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
