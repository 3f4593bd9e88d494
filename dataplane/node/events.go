package node

import (
	"context"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// report is what the flows or the engine tell of one packet: one of the two is set.
type report struct {
	denied *engine.DeniedPacket
	event  *engine.Event
}

// unjudged is how many reports wait for their verdict events before further ones are lost.
const unjudged = 4096

// followReports resets connections as soon as their denials are reported. Verdict events are made apart from that, since they take
// their time: the address that a client asked for is looked up among all connections.
func (n *Node) followReports(ctx context.Context) {
	queue := make(chan report, unjudged)
	n.running.Go(func() { n.reportVerdicts(ctx, queue) })
	for {
		var r report
		select {
		case <-ctx.Done():
			return
		case p := <-n.denied:
			if d := n.directory.Load(); d != nil {
				n.resetRefused(d, p)
			}
			r.denied = &p
		case e, ok := <-n.engine.Events():
			if !ok {
				return
			}
			if n.held(e) {
				continue
			}
			if d := n.directory.Load(); d != nil {
				n.reset(d, e)
			}
			r.event = &e
		}
		select {
		case queue <- r:
		default:
			n.cfg.Log.V(1).Info("A verdict event is lost: more denials than can be told of")
		}
	}
}

// reportVerdicts turns what the engine and the flows report into verdict events.
func (n *Node) reportVerdicts(ctx context.Context, queue <-chan report) {
	judge := verdict.Judge{Node: n.cfg.Name, ReplyInterface: attach.EngineB, RuleDetail: n.ruleDetail, BeforeDNAT: n.beforeDNAT}
	for {
		var r report
		select {
		case <-ctx.Done():
			return
		case r = <-queue:
		}
		d := n.directory.Load()
		if d == nil {
			continue
		}
		var e verdict.Event
		var isNew bool
		if r.denied != nil {
			e, isNew = judge.FromFlows(d, *r.denied)
		} else {
			e, isNew = judge.FromEngine(d, *r.event)
		}
		if isNew && n.cfg.OnVerdict != nil {
			n.cfg.OnVerdict(e)
		}
	}
}
