package suggesting

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Suggestion is a policy, and what it is made of.
type Suggestion struct {
	Policy v1alpha1.L7Policy
	// Requests is how many requests and connections were seen that it allows, First and Last when.
	Requests    int
	First, Last time.Time
	// Left are sentences about what was seen and is not allowed, since no rule can, or only one that allows far more.
	Left []string
	// Kept names the policies in mode Audit whose rules it has, too.
	Kept []string

	notes map[string][]string // of each rule, by name
}

// rule is one of either direction.
type rule struct {
	direction plan.Direction
	name      string
	peers     []Peer
	ports     []port
	matches   []v1alpha1.L7Match // nil allows everything
	notes     []string
}

// Make makes the policy, and gives nil when nothing was seen that a policy could allow. The error says what does not fit into one.
func (c *Collector) Make() (*Suggestion, error) {
	s := &Suggestion{notes: map[string][]string{}}
	s.Policy = v1alpha1.L7Policy{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "L7Policy"},
		ObjectMeta: metav1.ObjectMeta{Namespace: c.o.Pod.Namespace, Name: c.o.Name},
		Spec:       v1alpha1.L7PolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: c.selects}, Mode: v1alpha1.ModeAudit, Scope: c.o.Scope},
	}
	names := map[string]bool{}
	for _, d := range []plan.Direction{plan.Ingress, plan.Egress} {
		all := c.known(d, s)
		if len(all) == 0 {
			continue
		}
		rules := c.rules(d, all)
		rules = needed(rules, all)
		c.keep(d, names, s)
		for i := range rules {
			rules[i].name = unique(rules[i].called(), names)
			s.add(&rules[i])
		}
	}
	for text, n := range c.left {
		s.Left = append(s.Left, fmt.Sprintf("%s (%d times)", text, n))
	}
	if c.more > 0 {
		s.Left = append(s.Left, fmt.Sprintf("%d more, which differ from %d others: ask for less with --since", c.more, mostSeen))
	}
	slices.Sort(s.Left)
	if n := max(len(s.Policy.Spec.Ingress), len(s.Policy.Spec.Egress)); n > mostRules {
		return nil, fmt.Errorf("what was seen takes %d rules, and a policy has at most %d: let fewer paths stand at one place with --paths, or ask for less with --since", n, mostRules)
	}
	if s.Requests == 0 && len(s.Left) == 0 {
		return nil, nil
	}
	return s, nil
}

// known gives what was seen, but for connections of which nothing more is known: they are left out where requests are known of the same peer
// and port, and otherwise unless they are to be allowed whole.
func (c *Collector) known(d plan.Direction, s *Suggestion) []*seen {
	all := c.of(d)
	requests := map[string]bool{}
	at := func(x *seen) string { return x.peer.key() + "\x00" + x.port.String() }
	for _, x := range all {
		if !x.atom.connection {
			requests[at(x)] = true
		}
	}
	all = slices.DeleteFunc(all, func(x *seen) bool {
		switch {
		case !x.atom.connection || c.o.Connections:
			return false
		case !requests[at(x)]:
			s.Left = append(s.Left, fmt.Sprintf("%s, %s, port %s: connections of which no request is known (%d times): have them recorded (--recorder), or allow "+
				"everything on them (--connections)", strings.ToLower(string(d)), x.peer.Name, x.port, x.count))
		}
		return true
	})
	for _, x := range all {
		s.Requests += x.count
		if s.First.IsZero() || x.first.Before(s.First) {
			s.First = x.first
		}
		if x.last.After(s.Last) {
			s.Last = x.last
		}
	}
	return all
}

// rules makes the rules of a direction.
func (c *Collector) rules(d plan.Direction, all []*seen) []rule {
	// The atoms of each peer and port.
	type place struct {
		peer string
		port port
	}
	peers := map[string]Peer{}
	atoms := map[place]map[string]atom{}
	for _, x := range all {
		at := place{x.peer.key(), x.port}
		peers[at.peer] = x.peer
		if atoms[at] == nil {
			atoms[at] = map[string]atom{}
		}
		atoms[at][x.atom.key()] = x.atom
	}
	// Peers with the same atoms at a port, and then ports with the same peers and atoms.
	type content struct {
		port  port
		atoms string
	}
	byContent := map[content][]string{}
	kinds := map[string]map[string]atom{}
	for at, a := range atoms {
		a = generalise(a, c.o.Paths)
		key := strings.Join(slices.Sorted(maps.Keys(a)), "\x01")
		kinds[key] = a
		byContent[content{at.port, key}] = append(byContent[content{at.port, key}], at.peer)
	}
	type shared struct{ peers, atoms string }
	ports := map[shared][]port{}
	for k, list := range byContent {
		slices.Sort(list)
		key := shared{strings.Join(list, "\x01"), k.atoms}
		ports[key] = append(ports[key], k.port)
	}
	var rules []rule
	for _, k := range slices.SortedFunc(maps.Keys(ports), func(a, b shared) int {
		return cmp.Or(cmp.Compare(a.peers, b.peers), cmp.Compare(a.atoms, b.atoms))
	}) {
		list := ports[k]
		slices.SortFunc(list, func(a, b port) int {
			return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.protocol, b.protocol))
		})
		var of []Peer
		for key := range strings.SplitSeq(k.peers, "\x01") {
			of = append(of, peers[key])
		}
		what := matches(slices.Collect(maps.Values(kinds[k.atoms])))
		if slices.ContainsFunc(slices.Collect(maps.Values(kinds[k.atoms])), func(a atom) bool { return a.connection }) {
			what = nil
		}
		for from := range slices.Chunk(of, mostPeers) {
			if what == nil {
				rules = append(rules, rule{direction: d, peers: from, ports: list})
			}
			for part := range slices.Chunk(what, mostEntries) {
				rules = append(rules, rule{direction: d, peers: from, ports: list, matches: part})
			}
		}
	}
	return rules
}

// allows tells which of a rule's matches allow what was seen; the number of matches for a rule that allows everything.
func (r *rule) allows(x *seen) []int {
	if !slices.Contains(r.ports, x.port) || !slices.ContainsFunc(r.peers, func(p Peer) bool { return p.stands(&x.peer) }) {
		return nil
	}
	if r.matches == nil {
		return []int{0}
	}
	var all []int
	for i := range r.matches {
		if h := r.matches[i].HTTP; h != nil && (!slices.Contains(h.Methods, x.atom.method) || h.Path.Exact != nil && *h.Path.Exact != x.atom.path) {
			continue // what the evaluator would say, much sooner: there may be thousands of either
		}
		if l7.Allows([]l7.Entry{entryOf(&r.matches[i])}, x.request) {
			all = append(all, i)
		}
	}
	return all
}

// needed leaves out matches, and rules, without which everything that was seen is allowed still; and notes what was seen beside the others.
func needed(rules []rule, all []*seen) []rule {
	type place struct{ rule, match int }
	covers := make([][]place, len(all))
	by := map[place][]int{}
	for i, x := range all {
		for k := range rules {
			for _, m := range rules[k].allows(x) {
				covers[i] = append(covers[i], place{k, m})
				by[place{k, m}] = append(by[place{k, m}], i)
			}
		}
	}
	left := make([]int, len(all))
	for i := range covers {
		left[i] = len(covers[i])
	}
	gone := map[place]bool{}
	var kept []rule
	for k := range rules {
		r := rules[k]
		var what []v1alpha1.L7Match
		n := max(len(r.matches), 1)
		for m := range n {
			at := place{k, m}
			if !slices.ContainsFunc(by[at], func(i int) bool { return left[i] < 2 }) {
				gone[at] = true
				for _, i := range by[at] {
					left[i]--
				}
			} else if r.matches != nil {
				what = append(what, r.matches[m])
			}
		}
		if len(what) == 0 && (r.matches != nil || gone[place{k, 0}]) {
			continue
		}
		var of []*seen
		for i, x := range all {
			if slices.ContainsFunc(covers[i], func(p place) bool { return p.rule == k && !gone[p] }) {
				of = append(of, x)
			}
		}
		r.matches = what
		r.peers = slices.DeleteFunc(slices.Clone(r.peers), func(p Peer) bool { // of two peers, one may stand for the other
			return slices.ContainsFunc(r.peers, func(o Peer) bool { return o.key() != p.key() && o.stands(&p) })
		})
		r.notes = notes(of)
		kept = append(kept, r)
	}
	trim(kept, all)
	return kept
}

// trim leaves out peers of rules without which everything that was seen is allowed still, since another rule allows the same to more.
func trim(rules []rule, all []*seen) {
	covers := make([]int, len(all)) // how many rules allow it
	for i, x := range all {
		for k := range rules {
			if len(rules[k].allows(x)) > 0 {
				covers[i]++
			}
		}
	}
	for k := range rules {
		for p := len(rules[k].peers) - 1; p >= 0 && len(rules[k].peers) > 1; p-- {
			without := rules[k]
			without.peers = slices.Delete(slices.Clone(without.peers), p, p+1)
			var fewer []int // what the rule allows by this peer alone
			for i, x := range all {
				if rules[k].peers[p].stands(&x.peer) && len(rules[k].allows(x)) > 0 && len(without.allows(x)) == 0 {
					fewer = append(fewer, i)
				}
			}
			if slices.ContainsFunc(fewer, func(i int) bool { return covers[i] < 2 }) {
				continue
			}
			for _, i := range fewer {
				covers[i]--
			}
			rules[k] = without
		}
	}
}

// peer is a Peer as the API has it.
func (p *Peer) peer(namespace string) v1alpha1.EgressPeer {
	switch {
	case p.Service != "":
		in, name, _ := strings.Cut(p.Service, "/")
		if in == namespace {
			in = ""
		}
		return v1alpha1.EgressPeer{Service: &v1alpha1.ServicePeer{Namespace: in, Name: name}}
	case len(p.Labels) == 0:
		return v1alpha1.EgressPeer{Peer: v1alpha1.Peer{IPBlock: &v1alpha1.IPBlock{CIDR: prefixOf(p.Address)}}}
	}
	out := v1alpha1.Peer{PodSelector: &metav1.LabelSelector{MatchLabels: p.Labels}}
	if p.Namespace != namespace {
		out.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": p.Namespace}}
	}
	return v1alpha1.EgressPeer{Peer: out}
}

// add puts a rule into the policy.
func (s *Suggestion) add(r *rule) {
	var ports []v1alpha1.PolicyPort
	for _, p := range r.ports {
		number := intstr.FromInt32(int32(p.number))
		ports = append(ports, v1alpha1.PolicyPort{Protocol: v1alpha1.Protocol(p.protocol), Port: &number})
	}
	s.notes[r.name] = r.notes
	if r.direction == plan.Egress {
		e := v1alpha1.EgressRule{Name: r.name, Ports: ports, L7: r.matches}
		for i := range r.peers {
			e.To = append(e.To, r.peers[i].peer(s.Policy.Namespace))
		}
		s.Policy.Spec.Egress = append(s.Policy.Spec.Egress, e)
		return
	}
	in := v1alpha1.IngressRule{Name: r.name, Ports: ports, L7: r.matches}
	for i := range r.peers {
		in.From = append(in.From, r.peers[i].peer(s.Policy.Namespace).Peer)
	}
	s.Policy.Spec.Ingress = append(s.Policy.Spec.Ingress, in)
}

// keep takes the rules of the policies over that would not count beside this one, once it is enforced.
func (c *Collector) keep(d plan.Direction, names map[string]bool, s *Suggestion) {
	for _, p := range c.kept() {
		label := p.Namespace + "/" + p.Name
		note := []string{"kept: it is a rule of " + label + ", which is in mode Audit, and would not count where this policy is enforced"}
		taken := false
		if d == plan.Ingress {
			for i := range p.Spec.Ingress {
				r := *p.Spec.Ingress[i].DeepCopy()
				r.Name = unique(cmp.Or(r.Name, fmt.Sprintf("%s-ingress-%d", p.Name, i)), names)
				s.notes[r.Name], taken = note, true
				s.Policy.Spec.Ingress = append(s.Policy.Spec.Ingress, r)
			}
		} else {
			for i := range p.Spec.Egress {
				r := *p.Spec.Egress[i].DeepCopy()
				r.Name = unique(cmp.Or(r.Name, fmt.Sprintf("%s-egress-%d", p.Name, i)), names)
				s.notes[r.Name], taken = note, true
				s.Policy.Spec.Egress = append(s.Policy.Spec.Egress, r)
			}
		}
		if taken && !slices.Contains(s.Kept, label) {
			s.Kept = append(s.Kept, label)
		}
	}
}
