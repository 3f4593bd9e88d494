package node

import (
	"context"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// reportVerdicts turns what the engine and the flows report into verdict events.
func (n *Node) reportVerdicts(ctx context.Context) {
	judge := verdict.Judge{Node: n.cfg.Name, ReplyInterface: attach.EngineB, RuleDetail: n.ruleDetail, BeforeDNAT: n.beforeDNAT}
	for {
		var e verdict.Event
		var isNew bool
		select {
		case <-ctx.Done():
			return
		case p := <-n.denied:
			if d := n.directory.Load(); d != nil {
				n.resetRefused(d, p)
				e, isNew = judge.FromFlows(d, p)
			}
		case r, ok := <-n.engine.Events():
			if !ok {
				return
			}
			if d := n.directory.Load(); d != nil && !n.held(r) {
				n.reset(d, r) // first: somebody waits for it
				e, isNew = judge.FromEngine(d, r)
			}
		}
		if isNew && n.cfg.OnVerdict != nil {
			n.cfg.OnVerdict(e)
		}
	}
}
