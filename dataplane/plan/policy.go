package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// policy is an L7Policy with its references resolved.
type policy struct {
	object *v1alpha1.L7Policy
	name   types.NamespacedName
	// label is the name as one string.
	label string

	audit, failOpen, reset, allPorts bool

	selected *podSelection
	// ingress and egress are nil for a direction that the policy does not speak of, and empty for one where it allows nothing.
	ingress, egress []*rule

	// faults are what makes the policy not Accepted, and dangling what makes it not ResolvedRefs; notes are said beside a
	// condition that is true.
	faults, dangling []problem
	notes            []string
}

// problem is one sentence for the writer of a policy.
type problem struct{ reason, message string }

// newPolicies resolves the policies of a snapshot, sorted by name.
func newPolicies(x *index, objects []v1alpha1.L7Policy) []*policy {
	policies := make([]*policy, 0, len(objects))
	for i := range objects {
		policies = append(policies, newPolicy(x, &objects[i]))
	}
	slices.SortFunc(policies, func(a, b *policy) int { return compareNames(a.name, b.name) })
	number := int32(0)
	for _, p := range policies {
		for _, r := range slices.Concat(p.ingress, p.egress) {
			r.number = number
			number++
		}
	}
	return policies
}

func newPolicy(x *index, object *v1alpha1.L7Policy) *policy {
	spec := &object.Spec
	name := types.NamespacedName{Namespace: object.Namespace, Name: object.Name}
	p := &policy{
		object:   object,
		name:     name,
		label:    name.String(),
		audit:    spec.Mode == v1alpha1.ModeAudit,
		failOpen: spec.Mode == v1alpha1.ModeAudit || spec.FailurePolicy == v1alpha1.FailOpen,
		reset:    spec.DenyAction != v1alpha1.DenyDrop,
		allPorts: spec.Scope == v1alpha1.ScopeAllPorts,
	}
	selector, err := parseSelector(&spec.PodSelector)
	if err != nil {
		p.fault("spec.podSelector", "cannot be used: %v; it selects no Pod until it is corrected", err)
	}
	p.selected = x.selectPods(name.Namespace, selector)
	if spec.Ingress != nil {
		p.ingress = newRules(x, p, Ingress, ingressSources(spec.Ingress))
	}
	if spec.Egress != nil {
		p.egress = newRules(x, p, Egress, egressSources(spec.Egress))
	}
	return p
}

// rules returns the rules of a direction, and false when the policy does not speak of it.
func (p *policy) rules(d Direction) ([]*rule, bool) {
	rules := p.ingress
	if d == Egress {
		rules = p.egress
	}
	return rules, rules != nil
}

func (p *policy) fault(field, format string, args ...any) {
	p.faults = append(p.faults, problem{ReasonInvalid, field + " " + fmt.Sprintf(format, args...)})
}

func (p *policy) dangle(reason, field, format string, args ...any) {
	p.dangling = append(p.dangling, problem{reason, field + " " + fmt.Sprintf(format, args...)})
}

func (p *policy) note(field, format string, args ...any) {
	p.notes = append(p.notes, field+" "+fmt.Sprintf(format, args...))
}

// ruleSource is an ingress or egress rule in one form.
type ruleSource struct {
	name  string
	field string // spec.ingress[0]
	// peersField is where the peers stand: spec.ingress[0].from.
	peersField string
	peers      []v1alpha1.EgressPeer
	ports      []v1alpha1.PolicyPort
	l7         []v1alpha1.L7Match
}

func ingressSources(rules []v1alpha1.IngressRule) []ruleSource {
	sources := make([]ruleSource, 0, len(rules))
	for i := range rules {
		r := &rules[i]
		field := fmt.Sprintf("spec.ingress[%d]", i)
		peers := make([]v1alpha1.EgressPeer, 0, len(r.From))
		for _, p := range r.From {
			peers = append(peers, v1alpha1.EgressPeer{Peer: p})
		}
		sources = append(sources, ruleSource{r.Name, field, field + ".from", peers, r.Ports, r.L7})
	}
	return sources
}

func egressSources(rules []v1alpha1.EgressRule) []ruleSource {
	sources := make([]ruleSource, 0, len(rules))
	for i := range rules {
		r := &rules[i]
		field := fmt.Sprintf("spec.egress[%d]", i)
		sources = append(sources, ruleSource{r.Name, field, field + ".to", r.To, r.Ports, r.L7})
	}
	return sources
}

// rule is one rule with its references resolved.
type rule struct {
	policy    *policy
	direction Direction
	// number is the rule's place among all rules of the snapshot, sorted by policy, direction and place in the policy.
	number int32
	field  string // spec.ingress[0]
	// label is the rule's name, or its place when it has none: ingress[0].
	label string
	// identity is what of the rule enters a rule set's key.
	identity string
	// inspects says that the rule has l7. All its entries may have been faulty.
	inspects bool
	entries  []entry

	// ports are what the rule names; everyPort that it names none.
	ports     []portSpec
	everyPort bool
	peers     peers

	// clauses and names are what the rule allows at L4 and which ports it names, for a rule of egress. At ingress both depend
	// on the selected Pod: see allowed.
	clauses []clause
	names   portSet
}

// clause allows the connections with some peers to some ports.
type clause struct {
	ports     portSet
	addresses []int32
	blocks    []block
}

func newRules(x *index, p *policy, direction Direction, sources []ruleSource) []*rule {
	uses := map[string]int{}
	for _, s := range sources {
		uses[s.name]++
	}
	rules := make([]*rule, 0, len(sources))
	for i := range sources {
		s := &sources[i]
		place := strings.TrimPrefix(s.field, "spec.")
		r := &rule{
			policy: p, direction: direction, field: s.field,
			label:     cmp.Or(s.name, place),
			identity:  "name " + s.name,
			inspects:  len(s.l7) > 0,
			everyPort: len(s.ports) == 0,
		}
		if s.name == "" || uses[s.name] > 1 {
			r.identity = "place " + place
		}
		r.peers = newPeers(x, p, s)
		r.ports = newPortSpecs(p, s)
		r.entries = newEntries(p, r, s)
		if direction == Egress {
			r.resolveEgress(x)
		}
		checkPorts(x, p, r, s)
		rules = append(rules, r)
	}
	return rules
}

// allowed returns, for a selected Pod, what the rule allows at L4 and which ports it names.
func (r *rule) allowed(own *pod) (allows []clause, names portSet) {
	if r.direction == Egress {
		return r.clauses, r.names
	}
	if r.everyPort {
		names = everyPort()
	} else {
		var ranges []portRange
		for _, s := range r.ports {
			if s.name == "" {
				ranges = append(ranges, s.ports)
				continue
			}
			for _, n := range own.namedPort(s.name, s.protocol) {
				ranges = append(ranges, onePort(s.protocol, n))
			}
		}
		names = newPortSet(ranges)
	}
	return []clause{{names, r.peers.addresses, r.peers.blocks}}, names
}
