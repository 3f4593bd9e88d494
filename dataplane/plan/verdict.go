package plan

import (
	"encoding/binary"
	"slices"
)

// portJudge gives the verdicts of one group. It cuts the ports into cells, in each of which the same rules name every port and the
// same policies govern.
type portJudge struct {
	direction Direction
	sets      *ruleSets
	shadows   *shadows
	// bounds are where cells begin; cell i goes from bounds[i] to bounds[i+1].
	bounds []uint32
	// governed says who governs each cell; nil where nobody does.
	governed []*governors
	// matched are, for the class that is being judged, the rules that match each cell.
	matched []matches
}

// governors are the policies that govern a cell: those that enforce or, where none does, those that audit.
type governors struct {
	policies        []string
	audit           bool
	failOpen, reset bool
	// reporting is the key of the rule set that reports everything; only in audit.
	reporting string
}

// matches are the rules that match one cell for one class of peers.
type matches struct{ allow, inspect []*rule }

func newPortJudge(g *groupDraft, sets *ruleSets, s *shadows) *portJudge {
	j := &portJudge{direction: g.direction, sets: sets, shadows: s}
	for i := range protocolCount + 1 {
		j.bounds = append(j.bounds, uint32(i)*portsPerProtocol)
	}
	for _, m := range g.members {
		j.cut(m.governs)
		for _, a := range m.allows {
			j.cut(a.ports)
		}
	}
	slices.Sort(j.bounds)
	j.bounds = slices.Compact(j.bounds)
	j.matched = make([]matches, len(j.bounds)-1)
	j.setGovernors(g.members)
	return j
}

func (j *portJudge) cut(ports portSet) {
	for _, r := range ports {
		j.bounds = append(j.bounds, r.lo, r.hi)
	}
}

// cells returns the cells from..to (to not included) of a range.
func (j *portJudge) cells(r portRange) (from, to int) {
	from, _ = slices.BinarySearch(j.bounds, r.lo)
	to, _ = slices.BinarySearch(j.bounds, r.hi)
	return from, to
}

func (j *portJudge) setGovernors(members []member) {
	cells := make([][]int, len(j.bounds)-1) // which members govern a cell
	for i, m := range members {
		for _, r := range m.governs {
			from, to := j.cells(r)
			for c := from; c < to; c++ {
				cells[c] = append(cells[c], i)
			}
		}
	}
	known := map[string]*governors{}
	var key []byte
	j.governed = make([]*governors, len(cells))
	for c, in := range cells {
		if len(in) == 0 {
			continue
		}
		in = preferEnforcing(members, in)
		key = key[:0]
		for _, i := range in {
			key = binary.BigEndian.AppendUint32(key, uint32(i))
		}
		if known[string(key)] == nil {
			known[string(key)] = newGovernors(members, in)
		}
		j.governed[c] = known[string(key)]
	}
}

// preferEnforcing drops the members that audit where others enforce.
func preferEnforcing(members []member, in []int) []int {
	if !slices.ContainsFunc(in, func(i int) bool { return !members[i].policy.audit }) {
		return in
	}
	return slices.DeleteFunc(in, func(i int) bool { return members[i].policy.audit })
}

func newGovernors(members []member, in []int) *governors {
	g := &governors{policies: []string{}, audit: members[in[0]].policy.audit, failOpen: true}
	for _, i := range in {
		p := members[i].policy
		g.policies = append(g.policies, p.label)
		g.failOpen = g.failOpen && p.failOpen
		g.reset = g.reset || (p.reset && !p.audit)
	}
	return g
}

// verdicts judges the class of peers for which the given allowances hold, which are in the order of their rules' numbers.
func (j *portJudge) verdicts(allows []*allowance) []PortVerdict {
	for c := range j.matched {
		j.matched[c].allow, j.matched[c].inspect = j.matched[c].allow[:0], j.matched[c].inspect[:0]
	}
	for _, a := range allows {
		for _, r := range a.ports {
			from, to := j.cells(r)
			for c := from; c < to; c++ {
				j.match(c, a.rule)
			}
		}
	}
	verdicts := []PortVerdict{}
	var last *governors // who governs the last verdict
	for c, g := range j.governed {
		if g == nil {
			continue
		}
		v := j.verdict(c)
		if n := len(verdicts); n > 0 && last == g && continues(&verdicts[n-1], &v) {
			verdicts[n-1].EndPort = v.EndPort
			continue
		}
		verdicts, last = append(verdicts, v), g
	}
	return verdicts
}

// match notes that a rule matches a cell. Rules that audit do not count where others enforce.
func (j *portJudge) match(c int, r *rule) {
	if j.governed[c] == nil || j.governed[c].audit != r.policy.audit {
		return
	}
	list := &j.matched[c].allow
	if r.inspects {
		list = &j.matched[c].inspect
	}
	if n := len(*list); n == 0 || (*list)[n-1] != r {
		*list = append(*list, r)
	}
}

func (j *portJudge) verdict(c int) PortVerdict {
	g, m := j.governed[c], &j.matched[c]
	protocol := int(j.bounds[c] / portsPerProtocol)
	v := PortVerdict{
		Protocol: protocolName(protocol),
		Port:     uint16(j.bounds[c] % portsPerProtocol),
		EndPort:  uint16((j.bounds[c+1] - 1) % portsPerProtocol),
		Policies: g.policies,
	}
	j.shadows.note(m)
	switch {
	case len(m.allow) > 0:
		v.Verdict = Allow
	case protocol == protocolSCTP && g.audit:
		// The engine does not look into SCTP, so that nobody could report.
		v.Verdict = Allow
	case len(m.inspect) > 0 && protocol != protocolSCTP:
		v.Verdict, v.RuleSet, v.FailOpen = Inspect, j.sets.of(j.direction, m.inspect), g.failOpen
	case g.audit:
		if g.reporting == "" {
			g.reporting = j.sets.reporting(j.direction, g.policies)
		}
		v.Verdict, v.RuleSet, v.FailOpen = Inspect, g.reporting, true
	default:
		v.Verdict, v.Reset = Deny, g.reset && protocol == protocolTCP
	}
	return v
}

// continues says whether b goes on where a ends, with the same verdict.
func continues(a, b *PortVerdict) bool {
	return a.Protocol == b.Protocol && uint32(a.EndPort)+1 == uint32(b.Port) &&
		a.Verdict == b.Verdict && a.RuleSet == b.RuleSet
}
