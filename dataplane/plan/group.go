package plan

import (
	"cmp"
	"fmt"
	"slices"
)

// member is a policy as it governs the Pods of one group.
type member struct {
	policy *policy
	// allows are what its rules allow at L4.
	allows []allowance
	// governs are the ports of which only what is allowed passes.
	governs portSet
}

// allowance is a clause of a rule.
type allowance struct {
	rule *rule
	clause
}

// groupDraft is a group before its peers are worked out.
type groupDraft struct {
	key       string
	direction Direction
	members   []member
	looks     []look
}

// newMembers returns the policies that govern a Pod in a direction: those that select it, speak of the direction, and name at
// least one port there. At egress every rule counts, since what it names may come and go with its peers.
func newMembers(selecting []*policy, own *pod, direction Direction) []member {
	var members []member
	for _, p := range selecting {
		rules, ok := p.rules(direction)
		if !ok {
			continue
		}
		m := member{policy: p}
		var governs []portRange
		for _, r := range rules {
			allows, names := r.allowed(own)
			governs = append(governs, names...)
			for _, c := range allows {
				m.allows = append(m.allows, allowance{r, c})
			}
		}
		m.governs = newPortSet(governs)
		if p.allPorts {
			m.governs = everyPort()
		}
		if len(m.governs) > 0 || (direction == Egress && len(rules) > 0) {
			members = append(members, m)
		}
	}
	return members
}

// groupKey hashes what makes a group: direction, policies, what the named ports of ingress rules are on the Pod itself, and
// inspections with their ports.
func groupKey(members []member, looks []look, own *pod, direction Direction) string {
	d := newDigest()
	d.text("group")
	for _, m := range members {
		d.text(m.policy.label)
		if direction == Ingress {
			d.texts(namedPorts(m.policy.ingress, own))
		}
	}
	digestLooks(d, looks)
	return d.key(direction)
}

func namedPorts(rules []*rule, own *pod) []string {
	var resolved []string
	for _, r := range rules {
		for _, s := range r.ports {
			if s.name != "" {
				resolved = append(resolved, fmt.Sprint(s.name, " ", s.protocol, own.namedPort(s.name, s.protocol)))
			}
		}
	}
	slices.Sort(resolved)
	return slices.Compact(resolved)
}

// draftGroups sorts the local Pods into groups. It returns the edges and the groups, both in the plan's order.
func draftGroups(x *index, policies []*policy, inspections *inspections) ([]Edge, []*groupDraft) {
	selecting := map[int32][]*policy{}
	for _, p := range policies {
		for _, id := range p.selected.pods {
			if x.pods[id].local {
				selecting[id] = append(selecting[id], p)
			}
		}
	}
	edges := []Edge{}
	drafts := map[string]*groupDraft{}
	draft := func(id int32, direction Direction) string {
		members := newMembers(selecting[id], &x.pods[id], direction)
		looks := inspections.looksAt(x, id, direction)
		if len(members) == 0 && len(looks) == 0 {
			return ""
		}
		key := groupKey(members, looks, &x.pods[id], direction)
		if drafts[key] == nil {
			drafts[key] = &groupDraft{key, direction, members, looks}
		}
		return key
	}
	for id := range x.pods {
		p := &x.pods[id]
		e := Edge{Pod: p.name, UID: string(p.object.UID)}
		e.Ingress, e.Egress = draft(int32(id), Ingress), draft(int32(id), Egress)
		if e.Ingress == "" && e.Egress == "" {
			continue
		}
		for _, a := range p.addresses {
			e.Addresses = append(e.Addresses, x.addresses[a])
		}
		edges = append(edges, e)
	}
	sorted := make([]*groupDraft, 0, len(drafts))
	for _, g := range drafts {
		sorted = append(sorted, g)
	}
	slices.SortFunc(sorted, func(a, b *groupDraft) int { return cmp.Compare(a.key, b.key) })
	return edges, sorted
}
