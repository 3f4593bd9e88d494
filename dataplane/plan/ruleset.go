package plan

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"slices"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// entry is an l7.Entry with its canonical encoding, by which entries are put in order.
type entry struct {
	l7.Entry
	encoding string
}

func newEntry(e l7.Entry) entry {
	// Plain data of strings cannot fail to encode.
	encoding, _ := json.Marshal(e)
	return entry{e, string(encoding)}
}

// ruleSets collects the rule sets of a plan.
type ruleSets struct {
	sets map[string]*RuleSet
	// keys remembers the key of each combination of rules.
	keys    map[string]string
	scratch []byte
}

func newRuleSets() *ruleSets {
	return &ruleSets{sets: map[string]*RuleSet{}, keys: map[string]string{}}
}

// of returns the key of the rule set that allows what any of the rules allows; the rules are in the order of their numbers.
// Everything in the set follows from these rules, so that one key has one content.
func (s *ruleSets) of(direction Direction, rules []*rule) string {
	s.scratch = s.scratch[:0]
	for _, r := range rules {
		s.scratch = binary.BigEndian.AppendUint32(s.scratch, uint32(r.number))
	}
	if key, ok := s.keys[string(s.scratch)]; ok {
		return key
	}
	d := newDigest()
	d.text("rules")
	for _, r := range rules {
		d.text(r.policy.label)
		d.text(r.identity)
	}
	set := &RuleSet{Key: d.key(direction), Direction: direction, Policies: []string{}, Entries: []l7.Entry{}}
	var entries []entry
	for _, r := range rules {
		set.Audit = r.policy.audit
		set.Reset = set.Reset || (r.policy.reset && !r.policy.audit)
		set.Policies = append(set.Policies, r.policy.label)
		entries = append(entries, r.entries...)
	}
	slices.Sort(set.Policies)
	set.Policies = slices.Compact(set.Policies)
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.encoding, b.encoding) })
	for _, e := range slices.CompactFunc(entries, func(a, b entry) bool { return a.encoding == b.encoding }) {
		set.Entries = append(set.Entries, e.Entry)
	}
	s.sets[set.Key] = set
	s.keys[string(s.scratch)] = set.Key
	return set.Key
}

// reporting returns the key of the rule set that reports everything, on behalf of policies in audit mode.
func (s *ruleSets) reporting(direction Direction, policies []string) string {
	d := newDigest()
	d.text("report")
	d.texts(policies)
	set := &RuleSet{Key: d.key(direction), Direction: direction, Audit: true, Policies: policies, Entries: []l7.Entry{}}
	s.sets[set.Key] = set
	return set.Key
}

func (s *ruleSets) sorted() []RuleSet {
	all := make([]RuleSet, 0, len(s.sets))
	for _, set := range s.sets {
		all = append(all, *set)
	}
	slices.SortFunc(all, func(a, b RuleSet) int { return cmp.Compare(a.Key, b.Key) })
	return all
}
