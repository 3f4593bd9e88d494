package openflow

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// With session affinity, the endpoint that a client's connection was sent to keeps the client for some time, which begins anew with each
// of its connections. kube-proxy has a set of clients for each endpoint, with that timeout. Here the switch remembers by itself: the
// first connection has it learn a flow in table Affinity, with the Service's port and the client's edge as its match and the endpoint as what
// it loads, whichever address of the Service was asked. Each further connection meets that flow, and so it goes only when it was idle for
// the time. Edges, and not addresses, are matched: a Pod that makes up addresses has the switch learn no more flows than one that does not.
//
// An endpoint that is gone keeps nobody: table Kept knows those that there are, and for others one is chosen. Two connections that a
// client opens at once are chosen for one after the other, since the choice is made where the flow is learned: in the switch, and not, by a
// hash, in its datapath.
//
// Learned flows are not of any Bundle. They go with all others when flows are put back that somebody has changed, and when the switch is
// restarted.

// longestAffinity is what a flow's timeout can be, in seconds: less than a Service's, which may be a day.
const longestAffinity = 0xffff

// affinityTimeout is how long a learned flow stays idle, in seconds. What it counts reaches it up to a second late.
func affinityTimeout(seconds int32) int32 { return min(seconds, longestAffinity-1) + 1 }

// keep prepares the flows that keep the clients of a way to a Service, and gives the actions that lead there.
func (r *renderer) keep(s *plan.ServicePort, endpoints []netip.AddrPort, id uint32) string {
	if r.kept == nil {
		r.keeping.add(tableAffinity, priorityMiss, cookie(featurePipeline, 0), "Clients that no endpoint keeps.", newMatch(), drop)
	}
	c, name, port := cookie(featureService, id), serviceName(s), r.affinityNumber(s, family(endpoints[0].Addr()))
	for _, e := range endpoints {
		match := newMatch(is(fieldWay, id), is(fieldEndpoint, r.endpoints[e]))
		on := append(r.choose(s, e), gotoTable(tablePeerClass))
		r.keeping.add(tableKept, priorityKept, c, fmt.Sprintf("Clients of Service %s that %s keeps.", name, e), match, actions(on...))
		r.keeping.add(tableKeep, priorityStep, c, fmt.Sprintf("Clients of Service %s that %s keeps from now on, for %d s after the last connection.", name, e, s.AffinitySeconds),
			match, actions(append([]string{learn(s.AffinitySeconds)}, on...)...))
	}
	r.keeping.add(tableKept, priorityStep, c, fmt.Sprintf("Clients of Service %s that no endpoint of now keeps.", name),
		newMatch(is(fieldWay, id)), toGroup(id))
	return actions(load(fieldWay, id), load(fieldAffinity, port), resubmit(tableAffinity), gotoTable(tableKept))
}

// affinity adds the flows of all ways that keep clients.
func (r *renderer) affinity() {
	slices.SortStableFunc(r.keeping.Flows, func(x, y Flow) int { return cmp.Compare(x.Table, y.Table) })
	r.b.Flows = append(r.b.Flows, r.keeping.Flows...)
}

// affinityNumber gives the number of a Service's port over a family, which all its ways share.
func (r *renderer) affinityNumber(s *plan.ServicePort, f string) uint32 {
	if r.kept == nil {
		r.kept, r.keptTaken = map[string]uint32{}, map[uint32]bool{}
	}
	key := strings.Join([]string{s.Service.String(), s.Name, string(s.Protocol), f}, " ")
	if r.kept[key] == 0 {
		r.kept[key] = freeNumber(r.keptTaken, key)
	}
	return r.kept[key]
}

// learn has the switch remember the chosen endpoint for the edge.
func learn(seconds int32) string {
	return fmt.Sprintf("learn(table=%d,idle_timeout=%d,priority=%d,cookie=0x%x,%s,%s,load:%[7]s->%[7]s)",
		uint8(tableAffinity), affinityTimeout(seconds), priorityKept, cookie(featureAffinity, 0), fieldAffinity.name(), fieldEdge.name(), fieldEndpoint.name())
}

var (
	learning       = regexp.MustCompile(`\blearn\([^)]*\)`)
	learnedMatch   = regexp.MustCompile(fmt.Sprintf(`^reg%d=0x[0-9a-f]+,reg%d=(0|0x[0-9a-f]+)/0xffff$|^reg%[2]d=(0|0x[0-9a-f]+)/0xffff,reg%[1]d=0x[0-9a-f]+$`, fieldAffinity.reg, fieldEdge.reg))
	learnedActions = regexp.MustCompile(fmt.Sprintf(`^(load:0x[0-9a-f]+->NXM_NX_REG%d\[\]|set_field:0x[0-9a-f]+->reg%[1]d)$`, fieldEndpoint.reg))
)

// learned tells of flows that the switch has learned by ours. Others in that table are foreign.
func (f *Flow) learned() bool {
	_, feature := splitCookie(f.Cookie)
	return table(f.Table) == tableAffinity && feature == featureAffinity && f.Priority == priorityKept &&
		learnedMatch.MatchString(f.Match) && learnedActions.MatchString(f.Actions)
}
