package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Ledger remembers which number every key has, and which numbers were freed but may still be carried by connections. It is not
// safe for concurrent use.
type Ledger struct {
	path string
	// saved is what the file holds; nil when there is none.
	saved []byte

	edges, groups, ingress, egress *pool
	// Of inspections: taps by direction, and the profiles' slots.
	tapsIn, tapsOut, slots *pool
	engine                 engineFile
	signatureEngines       map[uint8]engineFile
}

// New returns an empty ledger that Save writes to path.
func New(path string) *Ledger {
	return &Ledger{
		path: path,
		edges: newPool("governed Pods", "run fewer Pods that policies select on this node",
			EdgeFirst, EdgeLast),
		groups: newPool("ways in which Pods are governed", "let more Pods share the same policies and named ports",
			GroupFirst, GroupLast),
		ingress: newPool("rule sets at ingress", ruleSetRemedy, IngressFirst, IngressLast),
		egress:  newPool("rule sets at egress", ruleSetRemedy, EgressFirst, EgressLast),
		tapsIn:  newPool("combinations of inspections at ingress", tapRemedy, IngressFirst, IngressLast),
		tapsOut: newPool("combinations of inspections at egress", tapRemedy, EgressFirst, EgressLast),
		slots:   newPool("signature engines", "let inspections share engines, by the same mode, rule sets, variables and failure policy", SlotFirst, SlotLast),
	}
}

const tapRemedy = "have fewer different combinations of inspections per Pod and port on this node: put them onto labels that more Pods share"

const ruleSetRemedy = "have fewer different combinations of rules with l7 per peer and port on this node: " +
	"put entries that go together into one rule, or policies onto labels that more Pods share"

// Fresh says that there was no file: connections that were numbered before, if there are any, carry numbers that this ledger
// does not know and may give another meaning.
func (l *Ledger) Fresh() bool {
	return l.saved == nil
}

// ExhaustedError says that a plan needs more numbers than there are.
type ExhaustedError struct {
	// What is numbered, in the plural.
	What string
	// Wanted is how many the plan needs, Bound how many numbers there are, and Quarantined how many of these were freed but cannot
	// be handed out again yet.
	Wanted, Bound, Quarantined int
	Remedy                     string
}

func (e *ExhaustedError) Error() string {
	text := fmt.Sprintf("this node cannot number %d %s: there are %d numbers", e.Wanted, e.What, e.Bound)
	if e.Quarantined > 0 {
		text += fmt.Sprintf(", of which %d were freed but are still carried by open connections or loaded in the engine, and come "+
			"back as these end", e.Quarantined)
	}
	return text + "; " + e.Remedy
}

// Inherit gives rule sets the numbers of those in whose place they stand, by key: the former's by the present one's. One that has
// a number keeps it, and of several in one's place the first by key gets its number. Call it before Assign.
func (l *Ledger) Inherit(formers map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(formers)) {
		if l.ingress.holds(key) || l.egress.holds(key) {
			continue
		}
		for _, p := range []*pool{l.ingress, l.egress} {
			if n, there := p.live[formers[key]]; there {
				p.live[key] = n
				delete(p.live, formers[key])
				p.freed = slices.DeleteFunc(p.freed, func(f freedNumber) bool { return f.Key == key })
			}
		}
	}
}

// Assign numbers the keys of a plan. A key keeps its number as long as plans hold it, and gets it back when it returns before
// the number was given to another. A number that was freed goes to another key only when no number is left that was never
// handed out and, for a rule set, when inUse says that no connection carries it and the engine does not know it; without inUse,
// all are taken to be in use. (Edges are flushed when they are released, and nothing carries a group's number.)
//
// Assign does not write: call Save before the numbers are used. With an error, which holds an ExhaustedError for everything that
// there is too much of, the ledger is as it was.
func (l *Ledger) Assign(p *plan.NodePlan, inUse func(id uint16) bool, now time.Time) (Numbers, error) {
	carried := func(n uint32) bool { return inUse == nil || inUse(uint16(n)) }
	free := func(uint32) bool { return false }
	after := Ledger{
		edges: l.edges.clone(), groups: l.groups.clone(), ingress: l.ingress.clone(), egress: l.egress.clone(),
		tapsIn: l.tapsIn.clone(), tapsOut: l.tapsOut.clone(), slots: l.slots.clone(),
	}
	k := keysOf(p)
	now = now.UTC().Truncate(time.Second)
	err := errors.Join(
		after.edges.assign(k.edges, free, now),
		after.groups.assign(k.groups, free, now),
		after.ingress.assign(k.ingress, carried, now),
		after.egress.assign(k.egress, carried, now),
		// Open connections are judged anew when their taps change.
		after.tapsIn.assign(k.tapsIn, free, now),
		after.tapsOut.assign(k.tapsOut, free, now),
		after.slots.assign(k.slots, free, now),
	)
	if err != nil {
		return Numbers{}, err
	}
	l.edges, l.groups, l.ingress, l.egress = after.edges, after.groups, after.ingress, after.egress
	l.tapsIn, l.tapsOut, l.slots = after.tapsIn, after.tapsOut, after.slots
	return l.numbers(p), nil
}

// EngineSlot gives the slot of an engine process, by anything that tells it from others: the same as long as the process is, and the
// next one, in a circle, for another. Call Save before it is used.
func (l *Ledger) EngineSlot(process string) uint8 {
	if l.engine.Process != process {
		l.engine = engineFile{Process: process, Slot: l.engine.Slot%EngineSlotLast + 1}
	}
	return l.engine.Slot
}

// SignatureProcess does the same for the signature engine in a slot.
func (l *Ledger) SignatureProcess(slot uint8, process string) uint8 {
	if l.signatureEngines == nil {
		l.signatureEngines = map[uint8]engineFile{}
	}
	e := l.signatureEngines[slot]
	if e.Process != process {
		e = engineFile{Process: process, Slot: e.Slot%EngineSlotLast + 1}
		l.signatureEngines[slot] = e
	}
	return e.Slot
}

// planKeys are the keys that a plan needs numbers for, each list sorted.
type planKeys struct{ edges, groups, ingress, egress, tapsIn, tapsOut, slots []string }

func keysOf(p *plan.NodePlan) planKeys {
	var k planKeys
	for i := range p.Edges {
		k.edges = append(k.edges, p.Edges[i].Pod.String())
	}
	for i := range p.Groups {
		k.groups = append(k.groups, p.Groups[i].Key)
	}
	for i := range p.RuleSets {
		if p.RuleSets[i].Direction == plan.Ingress {
			k.ingress = append(k.ingress, p.RuleSets[i].Key)
		} else {
			k.egress = append(k.egress, p.RuleSets[i].Key)
		}
	}
	for i := range p.Taps {
		if p.Taps[i].Direction == plan.Ingress {
			k.tapsIn = append(k.tapsIn, p.Taps[i].Key)
		} else {
			k.tapsOut = append(k.tapsOut, p.Taps[i].Key)
		}
	}
	for i := range p.Profiles {
		k.slots = append(k.slots, p.Profiles[i].Key)
	}
	for _, list := range [][]string{k.edges, k.groups, k.ingress, k.egress, k.tapsIn, k.tapsOut, k.slots} {
		slices.Sort(list)
	}
	return k
}

// numbers looks up what was assigned.
func (l *Ledger) numbers(p *plan.NodePlan) Numbers {
	n := Numbers{
		Edges:    make(map[types.NamespacedName]uint16, len(p.Edges)),
		Groups:   make(map[string]uint32, len(p.Groups)),
		RuleSets: make(map[string]uint16, len(p.RuleSets)),
	}
	for i := range p.Edges {
		n.Edges[p.Edges[i].Pod] = uint16(l.edges.live[p.Edges[i].Pod.String()])
	}
	for i := range p.Groups {
		n.Groups[p.Groups[i].Key] = l.groups.live[p.Groups[i].Key]
	}
	for i := range p.RuleSets {
		s := &p.RuleSets[i]
		if s.Direction == plan.Ingress {
			n.RuleSets[s.Key] = uint16(l.ingress.live[s.Key])
		} else {
			n.RuleSets[s.Key] = uint16(l.egress.live[s.Key])
		}
	}
	for i := range p.Taps {
		t := &p.Taps[i]
		from := l.tapsIn
		if t.Direction == plan.Egress {
			from = l.tapsOut
		}
		if n.Taps == nil {
			n.Taps = map[string]uint16{}
		}
		n.Taps[t.Key] = uint16(from.live[t.Key])
	}
	for i := range p.Profiles {
		if n.Slots == nil {
			n.Slots = map[string]uint8{}
		}
		n.Slots[p.Profiles[i].Key] = uint8(l.slots.live[p.Profiles[i].Key])
	}
	return n
}
