package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Trace follows a connection at the edge of one of the node's Pods, by the flows that the switch has now. Nothing is sent.
func (n *Node) Trace(ctx context.Context, q trace.Question) (*trace.Edge, error) {
	tracer, ok := n.cfg.Switch.(openflow.Tracer)
	if !ok {
		return nil, errors.New("the node's switch cannot trace")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inherited {
		return nil, errors.New("the node has not put its policies in force yet: ask again in a moment")
	}
	e := &trace.Edge{Node: n.cfg.Name, Pod: q.Pod.String(), Direction: q.Direction, Server: q.Server, Client: q.Client}
	at, ok := n.edges[q.Pod]
	if !ok {
		e.Delivered = true
		return e, nil
	}
	e.OnBridge = true
	if h := n.engine.Health(); !h.Healthy {
		e.EngineDown = h.Reason
	}
	if g := n.governs(q.Pod, q.Direction); g != nil {
		e.Policies = g.Policies
	}
	c := trace.Connection{
		Protocol: strings.ToLower(string(q.Protocol)), Client: q.Client, Server: q.Server, Endpoint: q.Endpoint, FromPod: q.Direction == plan.Egress,
	}
	if !c.FromPod && slices.Contains(n.current.plan.NodeAddresses, q.Client.Addr()) {
		c.Registers = []string{openflow.NodeMark()} // who hides behind the node has come with an address of its own
	}
	ways, err := trace.Walk(ctx, tracer.Trace, n.bridgeOf(at), c)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.cfg.Name, err)
	}
	return e, n.tell(e, ways)
}

// governs gives the group of a Pod in a direction; nil when it is not governed.
func (n *Node) governs(pod types.NamespacedName, d plan.Direction) *plan.Group {
	p := n.current.plan
	for i := range p.Edges {
		switch {
		case p.Edges[i].Pod != pod:
		case d == plan.Ingress:
			return p.Group(p.Edges[i].Ingress)
		default:
			return p.Group(p.Edges[i].Egress)
		}
	}
	return nil
}

// bridgeOf says what is behind the bridge's ports, for one edge.
func (n *Node) bridgeOf(at attached) trace.Bridge {
	b := trace.Bridge{
		PodPort: at.ports.Pod, NodePort: at.ports.Uplink, MAC: at.ports.MAC.String(), Deliver: openflow.TableOfDelivery, Hairpin: ledger.IsHairpin, HairpinMark: openflow.HairpinMark(),
		Ports: map[uint32]trace.Port{
			at.ports.Pod: {Behind: trace.Pod}, at.ports.Uplink: {Behind: trace.Node}, n.pairs.Agent: {Behind: trace.Agent},
			n.pairs.EngineA: {Behind: trace.Engine, Back: n.pairs.EngineB}, n.pairs.EngineB: {Behind: trace.Engine, Back: n.pairs.EngineA},
		},
	}
	for key, ports := range n.signaturePorts() {
		p := n.current.plan.Profile(key)
		if p == nil {
			continue
		}
		name := strings.Join(p.Inspections, ", ")
		b.Ports[ports.A] = trace.Port{Behind: trace.Signer, Back: ports.B, Name: name, Copies: ports.B == 0}
		if ports.B != 0 {
			b.Ports[ports.B] = trace.Port{Behind: trace.Signer, Back: ports.A, Name: name}
		}
	}
	return b
}

// tell says what the ways mean.
func (n *Node) tell(e *trace.Edge, w *trace.Ways) error {
	flows := openflow.NewIndex(n.render(n.current.plan, n.current.numbers))
	names := n.policyNames()
	e.Server, e.Delivered = w.Server, trace.Delivered(w.Request)
	for i := range w.Request {
		pass := &w.Request[i]
		e.Request = append(e.Request, wayOf(pass, flows, names))
		e.Client = pass.Out[0]
		if pass.To == trace.Engine {
			e.Inspections = append(e.Inspections, n.inspection(pass.VLAN, true))
		}
		for _, m := range pass.Matches {
			does := make([]string, len(m.Actions))
			for i, a := range m.Actions {
				does[i] = a.Text
			}
			e.AllowedAtL4 = e.AllowedAtL4 || openflow.AllowsAtL4(m.Table, m.Cookie, does)
			if number, ok := openflow.DenialOf(m.Cookie); ok {
				e.Denied = deniedBy(n.denials[number])
			}
		}
	}
	for i := range w.Reply {
		e.Reply = append(e.Reply, wayOf(&w.Reply[i], flows, names))
	}
	for _, entry := range w.Entries {
		c, err := openflow.Entry(entry.Mark, entry.Label)
		if err != nil {
			return err
		}
		e.Connections = append(e.Connections, trace.Tracked{
			Zone: entry.Zone, Mark: entry.Mark, Label: entry.Label, Inspected: c.Inspected(), FailOpen: c.FailsOpen(), Translated: c.Translated(),
			InspectionID: c.InspectionID, Epoch: c.Epoch,
		})
		if c.Inspected() && !inspected(e, c.InspectionID) {
			e.Inspections = append(e.Inspections, n.inspection(c.InspectionID, false))
		}
	}
	return nil
}

func inspected(e *trace.Edge, id uint16) bool {
	for i := range e.Inspections {
		if e.Inspections[i].ID == id {
			return true
		}
	}
	return false
}

// inspection gives what the engine judges by under a number.
func (n *Node) inspection(id uint16, passed bool) trace.Inspection {
	in := trace.Inspection{ID: id, Passed: passed, Direction: plan.Ingress}
	if id >= ledger.EgressFirst {
		in.Direction = plan.Egress
	}
	set := n.rules.loaded[id]
	in.Policies, in.Audit, in.Entries = set.Policies, set.Audit, set.Entries
	if d := n.directory.Load(); d != nil {
		in.Reset = d.Resets(id)
	}
	return in
}

func deniedBy(d verdict.Denial) *trace.Denied {
	return &trace.Denied{Policies: d.Policies, Direction: d.Direction, Reset: d.Reset, Full: d.Full}
}

// policyNames puts the names of policies in the place of their group's key.
func (n *Node) policyNames() *strings.Replacer {
	var pairs []string
	for _, g := range n.current.plan.Groups {
		pairs = append(pairs, "group "+g.Key, strings.Join(g.Policies, " and "))
	}
	return strings.NewReplacer(pairs...)
}

func wayOf(p *trace.Pass, flows openflow.Index, names *strings.Replacer) trace.Way {
	w := trace.Way{From: p.From, To: p.To, Engine: p.Name, Copies: p.Copies, InspectionID: p.VLAN, Source: p.In[0], Destination: p.In[1]}
	for _, m := range p.Matches {
		s := trace.Step{
			Table: openflow.TableName(m.Table), Conntrack: m.CTState, NAT: m.NAT, Priority: m.Priority, Match: m.Match.Match, Cookie: fmt.Sprintf("0x%x", m.Cookie),
		}
		if m.Missed {
			s.What = "No flow is for this packet."
		}
		if f := flows.Find(m.Table, m.Priority, m.Match.Match); f != nil {
			s.What = names.Replace(f.Comment)
		}
		for _, a := range m.Actions {
			s.Actions = append(s.Actions, a.Text)
		}
		w.Steps = append(w.Steps, s)
	}
	return w
}
