package plan

import (
	"net/netip"
	"slices"
)

// Compile plans for one node. It is pure: it reads nothing but the snapshot, and the order of the snapshot's lists does not
// matter. It always succeeds; what cannot be used of a policy allows nothing, and the findings say so.
func Compile(s Snapshot) (*NodePlan, Findings) {
	x := newIndex(&s)
	policies := newPolicies(x, s.L7Policies)
	inspections := newInspections(x, &s)
	edges, drafts := draftGroups(x, policies, inspections)

	sets, shadows := newRuleSets(), newShadows()
	p := &NodePlan{Edges: edges, Groups: make([]Group, 0, len(drafts)), Services: []ServicePort{}, NodeAddresses: nodeAddresses(&s)}
	for _, d := range drafts {
		p.Groups = append(p.Groups, newGroup(x, d, sets, shadows, inspections))
		shadows.endGroup()
	}
	p.RuleSets = sets.sorted()
	p.Profiles, p.Taps = inspections.planned()
	x.markHairpins(edges)
	p.Services = x.servicePorts(edges)
	p.NodePortAddresses = nodePortAddresses(&s, p.Services, p.NodeAddresses)
	findings := newFindings(x, policies, shadows)
	findings.Inspections = inspections.findings(x)
	return p, findings
}

func newGroup(x *index, d *groupDraft, sets *ruleSets, s *shadows, inspections *inspections) Group {
	g := Group{Key: d.key, Direction: d.direction, Policies: []string{}}
	for _, m := range d.members {
		g.Policies = append(g.Policies, m.policy.label)
	}
	g.Peers, g.Classes = newClassifier(x, d, newPortJudge(d, sets, s)).classify()
	g.Taps = inspections.tapsOf(d.direction, d.looks)
	g.Epoch = g.hash()
	return g
}

// hash makes the group's Epoch.
func (g *Group) hash() uint32 {
	d := newDigest()
	d.texts(g.Policies)
	d.number(uint64(len(g.Peers)))
	for i := range g.Peers {
		p := &g.Peers[i]
		address := p.Prefix.Addr().As16()
		d.scratch = append(d.scratch[:0], address[:]...)
		d.Write(d.scratch)
		d.number(uint64(p.Prefix.Addr().BitLen())<<48 | uint64(p.Prefix.Bits())<<32 | uint64(p.Class))
	}
	d.number(uint64(len(g.Classes)))
	for _, c := range g.Classes {
		d.verdicts(c)
	}
	for _, t := range g.Taps { // nothing is added where there are none
		d.text(string(t.Protocol))
		d.number(uint64(t.Port)<<16 | uint64(t.EndPort))
		d.texts([]string{t.Detect, t.Prevent})
	}
	return d.epoch()
}

// nodeAddresses are those of the interfaces and those that the Node object tells.
func nodeAddresses(s *Snapshot) []netip.Addr {
	addresses := []netip.Addr{}
	add := func(a netip.Addr) {
		if a = a.Unmap().WithZone(""); a.IsValid() && !a.IsLoopback() && !a.IsMulticast() && !a.IsUnspecified() {
			addresses = append(addresses, a)
		}
	}
	for _, a := range s.LocalAddresses {
		add(a)
	}
	for i := range s.Nodes {
		if s.Nodes[i].Name != s.Node {
			continue
		}
		for _, text := range s.Nodes[i].Status.Addresses {
			if a, err := netip.ParseAddr(text.Address); err == nil {
				add(a)
			}
		}
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses)
}
