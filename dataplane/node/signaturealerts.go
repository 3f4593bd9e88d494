package node

import (
	"context"
	"errors"

	"github.com/meerkat-dev/meerkat/dataplane/alerts"
)

// takeRecord queues an alert.
func (n *Node) takeRecord(e *signatureEngine, line []byte) {
	record, err := alerts.Decode(line)
	switch {
	case errors.Is(err, alerts.ErrNoAlert):
		return
	case err != nil:
		e.bad.Add(1)
		return
	}
	select {
	case n.signatures.queue <- queuedAlert{e.key, record}:
	default:
		e.lost.Add(1)
	}
}

// reportAlerts turns what the signature engines report into events.
func (n *Node) reportAlerts(ctx context.Context) {
	var told flowsTold
	namer := alerts.Namer{Node: n.cfg.Name, BeforeDNAT: n.beforeDNAT, ClientBehind: n.clientBehind, RuleSets: n.ruleSetsOf}
	for {
		var q queuedAlert
		select {
		case <-ctx.Done():
			return
		case q = <-n.signatures.queue:
		}
		d := n.signatures.names.Load()
		if d == nil {
			continue
		}
		event, known := namer.Event(d, q.profile, q.record)
		if known {
			n.keepPackets(q.record, &event)
		}
		if known && n.cfg.OnAlert != nil {
			n.cfg.OnAlert(event)
		}
		if known && event.Action == alerts.Dropped && n.cfg.OnVerdict != nil && told.add(event.FlowID, event.Signature.SID) {
			n.tellVerdict(event.Verdict())
		}
	}
}

// ruleSetsOf gives the rule sets of a profile that have a signature.
func (n *Node) ruleSetsOf(profile string, gid, sid uint32) []alerts.RuleSet {
	e, ok := n.signatures.known.Load(profile)
	if !ok {
		return nil
	}
	sets := e.(*signatureEngine).sets.Load()
	if sets == nil {
		return nil
	}
	return (*sets)[signatureNumber{max(gid, 1), sid}]
}

// flowsTold remembers of which connections and signatures a verdict was told: every packet that is sent again is dropped again.
type flowsTold struct{ seen map[[2]uint64]bool }

func (f *flowsTold) add(flow uint64, sid uint32) bool {
	key := [2]uint64{flow, uint64(sid)}
	if f.seen[key] {
		return false
	}
	if f.seen == nil || len(f.seen) >= 4096 {
		f.seen = map[[2]uint64]bool{}
	}
	f.seen[key] = true
	return true
}
