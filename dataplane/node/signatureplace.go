package node

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
)

// signatureEngineAt is the configuration of the signature engine in a slot, as far as it does not depend on its profile: where its
// files are, who runs it, and which interfaces it has.
func (n *Node) signatureEngineAt(slot uint8, inline bool) engine.Config {
	cfg := n.cfg.Engine
	place := launcher.Place{
		Root: cmp.Or(n.cfg.SignatureLaunchers, filepath.Join(n.cfg.StateDir, "signatures")), Name: launcher.SlotName(slot),
	}
	cfg.Slot, cfg.Dir, cfg.Netns, cfg.Launcher = slot, place.Dir(), n.cfg.Netns, ""
	if n.cfg.SignatureLaunchers != "" {
		cfg.Launcher, cfg.Binary = place.Socket(), engine.Binary{}
	}
	cfg.OnLoad = n.cfg.OnSignatureLoad
	cfg.Kind, cfg.B, cfg.Agent = engine.Detect, "", ""
	cfg.A, _ = attach.SignaturePair(slot, false)
	if inline {
		cfg.Kind, cfg.Agent = engine.Prevent, attach.Agent
		cfg.B, _ = attach.SignaturePair(slot, true)
	}
	return cfg
}

// sweepSignatures takes away what an earlier run has left of profiles that are gone: engines, ports, pairs and files. No flow leads there
// any more.
func (n *Node) sweepSignatures(ctx context.Context) error {
	used := map[uint8]bool{}
	for _, e := range n.signatures.engines {
		used[e.slot] = true
	}
	var errs []error
	var ports []string
	for slot := uint8(ledger.SlotFirst); slot <= ledger.SlotLast; slot++ {
		if used[slot] {
			continue
		}
		for _, b := range []bool{false, true} {
			_, port := attach.SignaturePair(slot, b)
			ports = append(ports, port)
		}
		errs = append(errs, n.sweepEngine(ctx, slot), n.attacher.RemoveSignaturePairs(slot))
	}
	errs = append(errs, n.cfg.Switch.DelPorts(ctx, ports...))
	return errors.Join(errs...)
}

// sweepEngine ends the engine in a slot, of whichever mode it was, and removes its files.
func (n *Node) sweepEngine(ctx context.Context, slot uint8) error {
	dir := n.signatureEngineAt(slot, false).Dir
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil // there was never one
	}
	n.cfg.Log.Info("Taking away what is left of a signature engine", "slot", slot)
	err := errors.Join(engine.EndLeft(ctx, n.signatureEngineAt(slot, false)), engine.EndLeft(ctx, n.signatureEngineAt(slot, true)))
	if err != nil {
		return err // its directory tells the next sweep
	}
	return os.RemoveAll(dir)
}
