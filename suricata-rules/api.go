package suricatarules

import (
	"fmt"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// RuleSet is one allow-list and the VLAN id that stands for it.
type RuleSet struct {
	// ID is the InspectionID, 1..4093: the VLAN id of the packets that it governs.
	ID uint16
	// Audit drops nothing and reports what would have been denied.
	Audit bool
	// Policies are what a denial is attributed to ("namespace/name").
	Policies []string
	// Entries are the alternatives. Without any, nothing is allowed.
	Entries []l7.Entry
}

// Kind says what it means that a rule matched.
type Kind string

// Kinds. Only Deny and Audit rules raise alerts. One denied request can raise several, of one flow and transaction.
const (
	// Gate lets packets of identified, allowed protocols on to judgement.
	Gate Kind = "gate"
	// Allow is one entry of the allow-list.
	Allow Kind = "allow"
	// Deny drops what no entry allows and raises an alert.
	Deny Kind = "deny"
	// Audit raises an alert for what would be denied.
	Audit Kind = "audit"
	// Probe lets the agent's probes through.
	Probe Kind = "probe"
)

// Meaning is what a rule stands for.
type Meaning struct {
	Kind Kind `json:"kind"`
	// RuleSet is the rule set's ID; 0 for rules that serve all.
	RuleSet uint16 `json:"ruleSet,omitempty"`
	// Protocol is "http1", "http2", "tls", "dns" or another of the engine's names; "" when the rule is not about one.
	Protocol string `json:"protocol,omitempty"`
	// Detail is a sentence for people.
	Detail string `json:"detail"`
	// Policies are those of the rule set.
	Policies []string `json:"policies,omitempty"`
}

// Rule is one rule of the engine.
type Rule struct {
	// SID is ID<<16 | index. It stays as long as the rule set's content does. The common rules are of ID 0: what an event of
	// theirs is about, its VLAN id tells.
	SID     uint32
	Text    string // one line, without the newline
	Meaning Meaning
}

// Compiled is a rule set in the engine's language.
type Compiled struct {
	Firewall []Rule
	Detect   []Rule
}

// Files are the engine's two rule files.
type Files struct {
	Firewall []byte
	Detect   []byte
	// Count is the number of rules in both files: what the engine must report as loaded.
	Count int
	// Index gives each rule's meaning by its sid.
	Index map[uint32]Meaning
}

// RuleSetOf returns the ID of the rule set that a sid belongs to; 0 for rules that serve all.
func RuleSetOf(sid uint32) uint16 { return uint16(sid >> 16) }

// EntryError says why one entry of an allow-list cannot be compiled.
type EntryError struct {
	Entry l7.Entry
	// Field is the part of the entry that is in the way: "path", "methods", `headers "X-Token"`, or the protocol when it is the
	// entry as a whole.
	Field string
	// Err says why, and what to do.
	Err error
}

// Error names the entry by its policy and rule.
func (e *EntryError) Error() string {
	return fmt.Sprintf("policy %s, rule %q, %s: %v", e.Entry.Policy, e.Entry.Rule, e.Field, e.Err)
}

// Unwrap returns the reason.
func (e *EntryError) Unwrap() error { return e.Err }
