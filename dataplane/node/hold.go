package node

import (
	"reflect"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// holds tells whether a plan is in force as it is: most of what changes in a cluster does not change what one node enforces. The
// watch of the switch, the supervision of the engine and the look at interfaces see to it that it stays so meanwhile.
func (n *Node) holds(p *plan.NodePlan) bool {
	if n.cfg.EditFlows != nil || n.failed || n.inherited || n.forgotten || n.outcome.Load() == nil || len(n.edges) != len(p.Edges) || !n.engine.Health().Healthy || !n.signaturesHold(p) {
		return false
	}
	for _, e := range p.Edges {
		have, ok := n.edges[e.Pod]
		if !ok || have.uid != e.UID {
			return false
		}
		if target, err := n.cfg.Locate(e.Pod); err == nil && target != have.target {
			return false
		}
	}
	return reflect.DeepEqual(p, n.current.plan)
}

// stay reports a Sync that has nothing to do.
func (n *Node) stay(s plan.Snapshot, r *Report, w *watch) *Report {
	r.Committed = true
	r.Plan = n.current.plan // one of the two is enough to keep
	r.Refusals, r.Links, r.Signatures = n.current.refusals, n.links.list(), n.signatureFaults()
	n.name(s, r.Plan, n.current.numbers)
	w.lap("unchanged")
	r.Took, r.Steps = time.Since(w.began), w.steps
	return r
}
