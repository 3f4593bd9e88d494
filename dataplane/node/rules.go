package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	suricatarules "github.com/meerkat-dev/meerkat/suricata-rules"
)

// rulesInForce are the rule sets that the engine has, and what stood in for those that it would not take.
type rulesInForce struct {
	loaded map[uint16]suricatarules.RuleSet
}

// held tells whether an event is about a packet that the engine only holds back: it passes when it is sent again. That is no
// denial.
func (n *Node) held(e engine.Event) bool {
	meanings := n.meanings.Load()
	return meanings != nil && e.Drop != nil && e.Drop.Rule != 0 && (*meanings)[e.Drop.Rule].Kind == suricatarules.Gate
}

// ruleDetail says what a rule is about.
func (n *Node) ruleDetail(sid uint32) string {
	meanings := n.meanings.Load()
	if meanings == nil {
		return ""
	}
	return (*meanings)[sid].Detail
}

// Refusal says why a policy's rules are not in force as they are written.
type Refusal struct {
	Policies []string
	Reason   string
	// Instead says what is enforced in their place.
	Instead string
}

// loadRules makes the engine apply the plan's rule sets. Rule sets that connections may still carry, though no policy has them
// any more, stay loaded until rules change again: dropping them is not worth a reload of its own.
//
// A rule set that does not compile, or that the engine refuses, does not hold up the others: what was in force under its number
// stays, and where nothing was, nothing is allowed.
func (n *Node) loadRules(ctx context.Context, p *plan.NodePlan, numbers ledger.Numbers) ([]Refusal, error) {
	wanted, refusals := n.compilable(p, numbers)
	if subset(wanted, n.rules.loaded) {
		return refusals, nil
	}
	err := n.load(ctx, n.withRetired(wanted))
	var refused *engine.LoadError
	if errors.As(err, &refused) && len(refused.Failed) > 0 {
		refusals = append(refusals, n.standIn(wanted, refused)...)
		err = n.load(ctx, n.withRetired(wanted))
	}
	return refusals, err
}

// RuleSets gives a plan's rule sets as the rule compiler takes them, in the plan's order.
func RuleSets(p *plan.NodePlan, numbers ledger.Numbers) []suricatarules.RuleSet {
	sets := make([]suricatarules.RuleSet, len(p.RuleSets))
	for i, s := range p.RuleSets {
		sets[i] = suricatarules.RuleSet{ID: numbers.RuleSets[s.Key], Audit: s.Audit, Policies: s.Policies, Entries: s.Entries}
	}
	return sets
}

// compilable gives the rule sets to load, by InspectionID.
func (n *Node) compilable(p *plan.NodePlan, numbers ledger.Numbers) (map[uint16]suricatarules.RuleSet, []Refusal) {
	wanted := make(map[uint16]suricatarules.RuleSet, len(p.RuleSets))
	var refusals []Refusal
	for _, set := range RuleSets(p, numbers) {
		wanted[set.ID] = set
		if _, err := suricatarules.Compile(set); err != nil {
			refusals = append(refusals, n.replace(wanted, set, err.Error()))
		}
	}
	return wanted, refusals
}

// standIn replaces the rule sets of which the engine refused a rule.
func (n *Node) standIn(wanted map[uint16]suricatarules.RuleSet, refused *engine.LoadError) []Refusal {
	var refusals []Refusal
	done := map[uint16]bool{}
	for _, f := range refused.Failed {
		id := suricatarules.RuleSetOf(f.SID)
		set, ok := wanted[id]
		if ok && !done[id] {
			done[id] = true
			refusals = append(refusals, n.replace(wanted, set, fmt.Sprintf("the engine refused the rule %q: %s", f.Rule, f.Reason)))
		}
	}
	return refusals
}

func (n *Node) replace(wanted map[uint16]suricatarules.RuleSet, set suricatarules.RuleSet, reason string) Refusal {
	r := Refusal{Policies: set.Policies, Reason: reason, Instead: "nothing is allowed in its place"}
	if last, ok := n.rules.loaded[set.ID]; ok {
		wanted[set.ID] = last
		r.Instead = "what was in force before stays"
		return r
	}
	set.Entries = nil
	wanted[set.ID] = set
	return r
}

// withRetired adds the rule sets of the last load that are not wanted any more.
func (n *Node) withRetired(wanted map[uint16]suricatarules.RuleSet) map[uint16]suricatarules.RuleSet {
	all := maps.Clone(wanted)
	for id, set := range n.rules.loaded {
		if _, ok := all[id]; !ok && n.current.uses(id) {
			all[id] = set
		}
	}
	return all
}

func (n *Node) load(ctx context.Context, sets map[uint16]suricatarules.RuleSet) error {
	list := slices.SortedFunc(maps.Values(sets), func(a, b suricatarules.RuleSet) int { return int(a.ID) - int(b.ID) })
	files, err := suricatarules.Render(list)
	if err != nil {
		return err
	}
	// First: an event of a new rule may come before the engine says that it has loaded it. A sid keeps its meaning as long as
	// its rule set's content, so that the few events of old rules are mostly understood.
	n.meanings.Store(&files.Index)
	_, err = n.engine.Load(ctx, engine.Rules{Firewall: files.Firewall, Detect: files.Detect, Expected: files.Count})
	if err != nil {
		return err
	}
	n.rules.loaded = sets
	return nil
}

func subset(wanted, loaded map[uint16]suricatarules.RuleSet) bool {
	if loaded == nil {
		return false
	}
	for id, set := range wanted {
		if !reflect.DeepEqual(loaded[id], set) {
			return false
		}
	}
	return true
}
