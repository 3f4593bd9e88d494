package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// makeSignatures makes an engine and its pairs; the first load starts it.
func (n *Node) makeSignatures(ctx context.Context, e *signatureEngine, profile *plan.Profile) error {
	inline := e.mode == v1alpha1.InspectionPrevent
	if err := n.attacher.EnsureSignaturePairs(e.slot, inline, n.cfg.MTU+vlanTag); err != nil {
		return err
	}
	if err := n.addSignaturePorts(ctx, e); err != nil {
		return err
	}
	if n.cfg.Engine.Launcher != "" && n.cfg.SignatureLaunchers == "" {
		return errors.New("there is no Suricata for signatures where the one of policies runs in a container of its own: " +
			"start the container signatures too, and set the agent's --signatures-dir")
	}
	cfg := n.signatureEngineAt(e.slot, inline)
	cfg.FailOpen, cfg.Nice = profile.FailOpen, 0
	if !inline {
		cfg.Nice = detectNice
	}
	if err := forOneProfile(cfg.Dir, profile); err != nil {
		return err
	}
	cfg.Settings, cfg.ReportRequests, cfg.OnDenied, cfg.Wake = slices.Clone(n.cfg.SignatureSettings), false, nil, nil
	cfg.OnRecord = func(line []byte) { n.takeRecord(e, line) }
	if e.asks = make(chan func()); inline {
		cfg.BeforeStart = func(ctx context.Context) { n.beforeSignatures(ctx, e) }
	}
	made, err := engine.New(cfg, n.cfg.Log.WithName(fmt.Sprintf("signatures-%d", e.slot)))
	if err != nil {
		return err
	}
	e.engine = made
	n.links.followPairs(e.pairEnds()...)
	n.signatures.known.Store(e.key, e)
	return nil
}

// followStarted follows the health of an engine that has started.
func (n *Node) followStarted(e *signatureEngine) {
	e.started = time.Now()
	background, stop := context.WithCancel(n.background)
	e.stop = stop
	made := e.engine
	n.running.Go(func() { n.followSignatures(background, e, made) })
}

// retireSignatures ends the engines that no inspection needs any more. No flow leads to them by now.
func (n *Node) retireSignatures(ctx context.Context, p *plan.NodePlan) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(n.signatures.engines)) {
		if p.Profile(key) == nil {
			errs = append(errs, n.endSignatures(ctx, n.signatures.engines[key]))
		}
	}
	if !n.signatures.swept {
		err := n.sweepSignatures(ctx)
		if n.signatures.swept = err == nil; err != nil { // it does no harm, and the next Sync tries again
			n.cfg.Log.Error(err, "Something of an earlier run is left")
		}
	}
	return errors.Join(errs...)
}

// endSignatures ends an engine and takes its ports and pairs away.
func (n *Node) endSignatures(ctx context.Context, e *signatureEngine) error {
	var errs []error
	if e.loading != nil {
		e.loading.stop()
	}
	if e.stop != nil {
		e.stop()
	}
	if e.engine != nil {
		errs = append(errs, e.engine.Stop(ctx)) // which ends a load, too
	}
	if e.loading != nil {
		<-e.loading.done
	}
	n.links.forgetPairs(e.pairEnds()...)
	delete(n.signatures.engines, e.key)
	n.signatures.known.Delete(e.key)
	errs = append(errs, n.cfg.Switch.DelPorts(ctx, e.portNames()...), n.attacher.RemoveSignaturePairs(e.slot))
	return errors.Join(errs...)
}
