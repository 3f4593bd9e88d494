package node

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// The flows of an earlier run hold until the first Sync, which may be long: an agent needs the API server for it. Until then all that is
// changed in them is what follows from an engine that dies, or is another process than it was.

// inheritedFlows are those of an earlier run.
type inheritedFlows struct {
	// flows are as they were found; nil while none has been changed.
	flows *openflow.Bundle
	// away tells that none is to lead to the engine of policies.
	away bool
}

// leadInherited has the flows of an earlier run lead to the engine of policies, or not. It returns false when they cannot be changed now.
func (n *Node) leadInherited(ctx context.Context, up bool) bool {
	if up == !n.found.away {
		return true
	}
	n.found.away = !up
	if n.applyInherited(ctx) {
		return true
	}
	n.found.away = up
	return false
}

// applyInherited makes the flows of an earlier run what they are to be with the engines as they are now.
func (n *Node) applyInherited(ctx context.Context) bool {
	if n.found.flows == nil {
		present, err := n.cfg.Switch.Dump(ctx)
		if err != nil {
			return true // there is no bridge yet
		}
		n.found.flows = present
	}
	b := n.found.flows
	if n.found.away {
		b = b.WithoutEngine()
	} else if n.pairs.EngineSlot != 0 {
		b = b.ForEngine(n.pairs.EngineSlot)
	}
	for _, e := range n.signatures.engines {
		switch {
		case e.mode != v1alpha1.InspectionPrevent:
		case !e.ports.Up:
			b = b.WithoutSignatureEngine(e.slot)
		case e.ports.Process != 0:
			b = b.ForSignatureEngine(e.slot, e.ports.Process)
		}
	}
	if err := n.cfg.Switch.Apply(ctx, b); err != nil {
		n.cfg.Log.Error(err, "The flows of an earlier run do not follow the engines yet")
		return false
	}
	return true
}

// profileRecord tells, in a signature engine's directory, of which profile it is.
type profileRecord struct {
	Key      string                  `json:"key"`
	Mode     v1alpha1.InspectionMode `json:"mode"`
	FailOpen bool                    `json:"failOpen"`
}

const profileFile = "profile"

func readProfile(dir string) (profileRecord, error) {
	var p profileRecord
	text, err := os.ReadFile(filepath.Join(dir, profileFile))
	if err != nil {
		return p, err
	}
	if json.Unmarshal(text, &p) != nil {
		p = profileRecord{Key: string(text)} // older agents wrote the key alone
	}
	return p, nil
}

// forOneProfile empties the directory of an engine that had another profile: its rules are another's.
func forOneProfile(dir string, profile *plan.Profile) error {
	want := profileRecord{profile.Key, profile.Mode, profile.FailOpen}
	have, err := readProfile(dir)
	switch {
	case err == nil && have == want:
		return nil
	case err == nil && have.Key == want.Key: // whose mode and failure policy are part of the key
	default:
		if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o750)); err != nil {
			return err
		}
	}
	text, err := json.Marshal(want)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, profileFile), text, 0o640)
}

// adoptSignatures takes over the engines that prevent which an earlier run has left, so that their failure policy holds should one die
// before the first Sync. What is no good is left to that.
func (n *Node) adoptSignatures(ctx context.Context) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.inherited {
		return
	}
	for slot := uint8(ledger.SlotFirst); slot <= ledger.SlotLast; slot++ {
		p, err := readProfile(n.signatureEngineAt(slot, true).Dir)
		if errors.Is(err, os.ErrNotExist) || p.Mode != v1alpha1.InspectionPrevent {
			continue
		}
		e := &signatureEngine{key: p.Key, slot: slot, mode: p.Mode}
		profile := &plan.Profile{Key: p.Key, Mode: p.Mode, FailOpen: p.FailOpen}
		if err == nil {
			err = n.makeSignatures(ctx, e, profile)
		}
		if err != nil {
			n.cfg.Log.Error(err, "A signature engine of an earlier run cannot be followed before the first Sync", "slot", slot)
			continue
		}
		e.ports.Up = true // as its flows say
		n.signatures.engines[e.key] = e
		n.startLoad(e, signatureLoad{}, nil)
	}
}

// settleInherited takes in that an engine of an earlier run has been adopted, or started anew, or could not be.
func (n *Node) settleInherited(e *signatureEngine) {
	if n.takeLoad(e); e.engine == nil {
		n.turnSignatures(n.background, e, e.ports, false, "it does not start")
	}
}
