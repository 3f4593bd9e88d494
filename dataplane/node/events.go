package node

import (
	"context"
	"net/netip"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// report is what the flows or the engine tell of one packet: one of the two is set.
type report struct {
	denied *engine.DeniedPacket
	event  *engine.Event
	// client hides behind the node's address that the packet has as one of its ends; invalid where there is none. It is looked up before
	// the connection is reset, since conntrack forgets a connection that is.
	client netip.AddrPort
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
			d := n.directory.Load()
			if p.Stray {
				if d != nil {
					n.stray(d, p)
				}
				continue
			}
			r.client = n.clientBehind(p.Src, p.Dst, p.Proto)
			if d != nil {
				n.resetRefused(d, p)
			}
			r.denied = &p
		case e, ok := <-n.engine.Events():
			if !ok {
				return
			}
			if n.held(e) {
				n.cfg.Log.V(1).Info("Held back", "from", e.Src, "to", e.Dst, "sequence", e.Drop.TCPSeq, "rule", e.Drop.Rule)
				continue
			}
			if r.client = n.clientBehind(e.Src, e.Dst, e.Proto); !r.client.IsValid() {
				r.client = n.clientBehind(e.Dst, e.Src, e.Proto)
			}
			if d := n.directory.Load(); d != nil {
				n.reset(d, e)
			}
			r.event = &e
		}
		select {
		case queue <- r:
		default:
			n.verdictsLost.Add(1)
		}
	}
}

// VerdictsLost counts denials, audits and reports of requests of which no verdict event was made, since more came than the node could tell
// of. They took effect all the same.
func (n *Node) VerdictsLost() uint64 { return n.verdictsLost.Load() }

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
		if r.client.IsValid() {
			e.Client = d.Behind(e.Client, r.client)
		}
		if isNew && n.cfg.OnVerdict != nil {
			n.tellVerdict(e)
		}
	}
}

// tellVerdict tells a verdict event, one at a time.
func (n *Node) tellVerdict(e verdict.Event) {
	n.telling.Lock()
	defer n.telling.Unlock()
	n.cfg.OnVerdict(e)
}
