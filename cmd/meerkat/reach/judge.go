package reach

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// judge asks the plan about one port of one Pod.
type judge struct {
	plan     *plan.NodePlan
	question *Question
	port     uint16
	edges    map[types.NamespacedName]*plan.Edge
}

// group is how a Pod is governed in a direction; nil when it is not.
func (j *judge) group(pod types.NamespacedName, direction plan.Direction) *plan.Group {
	e := j.edges[pod]
	if e == nil {
		return nil
	}
	if direction == plan.Ingress {
		return j.plan.Group(e.Ingress)
	}
	return j.plan.Group(e.Egress)
}

// pod judges what one Pod sends to another, and gives false when they have no address family in common. Both edges must allow it, in one
// of the families.
func (j *judge) pod(from, to *corev1.Pod, ingress *plan.Group) (Sender, bool) {
	name := types.NamespacedName{Namespace: from.Namespace, Name: from.Name}
	egress := j.group(name, plan.Egress)
	best := Sender{Pod: name.String(), May: ""}
	for _, source := range addresses(from) {
		for _, destination := range addresses(to) {
			if source.Is4() != destination.Is4() {
				continue
			}
			out, whyOut := j.edge(egress, plan.Egress, destination)
			in, whyIn := j.edge(ingress, plan.Ingress, source)
			may, why := worse(out, in), []string{}
			for _, w := range []string{whyOut, whyIn} {
				if w != "" {
					why = append(why, w)
				}
			}
			if best.May == "" || may.rank() < best.May.rank() {
				best.May, best.Why = may, why
			}
		}
	}
	return best, best.May != ""
}

func worse(a, b May) May {
	if a.rank() > b.rank() {
		return a
	}
	return b
}

// edge says what one edge does with a connection whose other end is peer, and why; nothing where it is not governed.
func (j *judge) edge(g *plan.Group, direction plan.Direction, peer netip.Addr) (May, string) {
	if g == nil {
		return Yes, ""
	}
	verdict, governed := g.Judge(peer, j.question.Protocol, j.port)
	if !governed {
		return Yes, ""
	}
	return j.verdict(direction, verdict)
}

func (j *judge) verdict(direction plan.Direction, v plan.PortVerdict) (May, string) {
	say := func(format string, args ...any) string {
		return strings.ToLower(string(direction)) + ", " + strings.Join(v.Policies, " and ") + ": " + fmt.Sprintf(format, args...)
	}
	switch v.Verdict {
	case plan.Allow:
		return Yes, say("allowed, whatever is sent")
	case plan.Deny:
		return No, say("no rule is for this peer and port")
	case plan.Inspect:
	}
	set := j.plan.RuleSet(v.RuleSet)
	if set == nil {
		return No, say("nothing is allowed")
	}
	may := No
	if set.Audit {
		may = Audited
	}
	if len(set.Entries) == 0 {
		return may, say("no rule is for this peer and port")
	}
	if j.question.Request == nil {
		return Depends, say("by request: %s", strings.Join(rulesOf(set.Entries), ", "))
	}
	reasons := l7.Explain(set.Entries, *j.question.Request)
	if reasons != nil {
		return may, say("%s", l7.Nearest(reasons))
	}
	for _, e := range set.Entries {
		if l7.Allows([]l7.Entry{e}, *j.question.Request) {
			return Yes, say("allowed by the rule %s", e.Rule)
		}
	}
	return Yes, say("allowed")
}

func rulesOf(entries []l7.Entry) []string {
	var all []string
	for i := range entries {
		if !slices.Contains(all, entries[i].Rule) {
			all = append(all, entries[i].Rule)
		}
	}
	return all
}

// blocks judges what others send: the ranges of addresses that the Pod's policies tell apart, and all the rest. Those of single Pods are
// left out.
func (j *judge) blocks(pods []corev1.Pod, to *corev1.Pod, ingress *plan.Group) []Sender {
	families := map[bool]bool{}
	for _, a := range addresses(to) {
		families[a.Is4()] = true
	}
	ofPods := map[netip.Prefix]bool{}
	for i := range pods {
		for _, a := range addresses(&pods[i]) {
			ofPods[netip.PrefixFrom(a, a.BitLen())] = true
		}
	}
	peers := []plan.Peer{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}, {Prefix: netip.MustParsePrefix("::/0")}}
	if ingress != nil {
		peers = slices.Clone(ingress.Peers)
	}
	slices.SortStableFunc(peers, func(a, b plan.Peer) int {
		return cmp.Or(-cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), a.Prefix.Addr().Compare(b.Prefix.Addr()))
	})
	var all []Sender
	for _, peer := range peers {
		if ofPods[peer.Prefix] || !families[peer.Prefix.Addr().Is4()] {
			continue
		}
		sender := Sender{Block: peer.Prefix.String(), May: Yes, Why: []string{}}
		if ingress != nil {
			for _, v := range ingress.Classes[peer.Class] {
				if v.Protocol == j.question.Protocol && v.Port <= j.port && j.port <= v.EndPort {
					var why string
					sender.May, why = j.verdict(plan.Ingress, v)
					sender.Why = append(sender.Why, why)
				}
			}
		}
		all = append(all, sender)
	}
	return distinct(all)
}

// distinct leaves out blocks of which the same is said as of the next wider one that they are part of.
func distinct(blocks []Sender) []Sender {
	var all []Sender
	for i, b := range blocks {
		within := netip.MustParsePrefix(b.Block)
		wider := slices.IndexFunc(blocks[i+1:], func(o Sender) bool {
			p := netip.MustParsePrefix(o.Block)
			return p.Overlaps(within) && p.Bits() < within.Bits()
		})
		if wider >= 0 && blocks[i+1+wider].May == b.May && slices.Equal(blocks[i+1+wider].Why, b.Why) {
			continue
		}
		all = append(all, b)
	}
	return all
}
