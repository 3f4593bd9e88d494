package node

import (
	"maps"
	"slices"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// SignatureEngine says how a signature engine fares.
type SignatureEngine struct {
	Profile string
	Slot    uint8
	Mode    v1alpha1.InspectionMode
	// Status is that of the process.
	Status engine.Status
	// RuleSets are the revisions that it has loaded, and LoadedAt when; none before the first load.
	RuleSets []plan.SignatureRef
	LoadedAt time.Time
	// Failed is why it does not run the profile's present rules; empty when it does.
	Failed string
	// BadRecords counts what it wrote that made no sense, LostAlerts the alerts that nobody had time for.
	BadRecords, LostAlerts uint64
}

// SignatureEngines says how the signature engines fare, by profile. It does not wait for a Sync: while there is one, what is said of
// loads is what was so before.
func (n *Node) SignatureEngines() []SignatureEngine {
	if n.mu.TryLock() {
		var all []signatureView
		for _, key := range slices.Sorted(maps.Keys(n.signatures.engines)) {
			all = append(all, n.signatures.engines[key].view())
		}
		n.signatures.views.Store(&all)
		n.mu.Unlock()
	}
	var all []SignatureEngine
	if views := n.signatures.views.Load(); views != nil {
		for _, v := range *views {
			if v.engine != nil {
				v.Status = v.engine.Status()
			}
			all = append(all, v.SignatureEngine)
		}
	}
	return all
}

// signatureView is what is said of an engine, but for its process.
type signatureView struct {
	SignatureEngine
	engine *engine.Engine
}

// view has the lock.
func (e *signatureEngine) view() signatureView {
	v := signatureView{engine: e.engine, SignatureEngine: SignatureEngine{
		Profile: e.key, Slot: e.slot, Mode: e.mode, RuleSets: e.loaded.ruleSets, LoadedAt: e.loaded.at, BadRecords: e.bad.Load(), LostAlerts: e.lost.Load(),
	}}
	if e.failed != nil {
		v.Failed = e.failed.Error()
	}
	return v
}

// SignatureEngine gives the engine of a profile, or nil, for tests that send it signals.
func (n *Node) SignatureEngine(profile string) *engine.Engine {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e := n.signatures.engines[profile]; e != nil {
		return e.engine
	}
	return nil
}
