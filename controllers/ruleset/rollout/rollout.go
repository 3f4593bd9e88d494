// Package rollout decides how a new revision of a RuleSet gets to the nodes: it is validated by the engine of one node, runs on some nodes
// while it is watched there, and then on all of them; or it is refused, or goes back.
//
//	Validating ──► Canary ──► Rolling ──► Done
//	     │            └──► RolledBack
//	     └──► Refused
//
// Step is pure, and all that it knows of the past is in the RuleSet's status: a manager that starts anew goes on from there. At any
// moment nodes run one of two revisions: status.revision or, where they are canaries, status.rollout.revision.
package rollout

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

const (
	// ValidationTime is how long a node has to validate a revision before another is asked.
	ValidationTime = 5 * time.Minute
	// LoadTime is how long canaries have to load a revision before it is rolled back.
	LoadTime = 5 * time.Minute
	// DefaultHold is how long canaries run a revision where the RuleSet does not say.
	DefaultHold = 10 * time.Minute
	// lookAgain is how often the counts of canaries are looked at.
	lookAgain = 10 * time.Second
)

// Reasons why a revision was refused or rolled back.
const (
	// ReasonRulesRefused says that Meerkat or the engine refuses rules.
	ReasonRulesRefused = "RulesRefused"
	// ReasonTooManyAlerts and ReasonTooManyDrops say that a bound broke on a canary.
	ReasonTooManyAlerts = "TooManyAlerts"
	ReasonTooManyDrops  = "TooManyDrops"
	// ReasonEngineNotHealthy says that the engine of a canary does not inspect.
	ReasonEngineNotHealthy = "EngineNotHealthy"
	// ReasonNotLoaded says that a canary did not load the revision in time.
	ReasonNotLoaded = "NotLoaded"
	// ReasonNotReporting says that a canary's agent has fallen silent.
	ReasonNotReporting = "CanaryNotReporting"
)

// Node is a node as far as the rule set goes.
type Node struct {
	Name string
	// Needs says that it has Pods which an inspection with the rule set selects.
	Needs bool
	// Reports says that its agent has reported of late.
	Reports bool
	// Report is what it says of the rule set; nil for nothing.
	Report *v1alpha1.NodeRuleSet
}

// Input is all that a step is decided by.
type Input struct {
	// Key tells rule sets apart, so that each has canaries of its own.
	Key  string
	Spec *v1alpha1.RuleSetRollout
	// Newest is the revision that the spec and the sources make, and Generation that of the spec; empty while nothing could be built.
	Newest     string
	Generation int64
	// Refused says why Meerkat itself refuses Newest; empty when it does not.
	Refused string
	// Nodes are all that have an agent or need the rule set.
	Nodes []Node
	Now   time.Time
}

// State is what a step changes of a RuleSet's status.
type State struct {
	Revision, Previous string
	Rollout            *v1alpha1.RolloutStatus
}

// StateOf takes it from a status; it shares nothing with it.
func StateOf(s *v1alpha1.RuleSetStatus) State {
	return State{Revision: s.Revision, Previous: s.Previous, Rollout: s.Rollout.DeepCopy()}
}

// Step brings a rollout as far as it can go now, and says after what time it may go on by itself; zero for when something happens.
func Step(s State, in Input) (State, time.Duration) {
	in.Now = in.Now.Truncate(time.Second) // as statuses have it
	s.Rollout = s.Rollout.DeepCopy()
	s.begin(in)
	if s.Rollout == nil {
		return s, 0
	}
	var next time.Duration
	for was := v1alpha1.RolloutPhase(""); was != s.Rollout.Phase; {
		was = s.Rollout.Phase
		switch was {
		case v1alpha1.RolloutValidating:
			next = s.validate(in)
		case v1alpha1.RolloutCanary:
			next = s.watch(in)
		case v1alpha1.RolloutRolling:
			s.roll(in)
			next = 0
		case v1alpha1.RolloutDone, v1alpha1.RolloutRolledBack, v1alpha1.RolloutRefused:
			next = 0
		}
	}
	s.count(in)
	return s, next
}

// begin begins with another revision, and again with one that was refused or rolled back when the spec has changed since.
func (s *State) begin(in Input) {
	r := s.Rollout
	if in.Newest == "" {
		return
	}
	if r != nil && r.Revision == in.Newest {
		given := r.Phase == v1alpha1.RolloutRefused || r.Phase == v1alpha1.RolloutRolledBack
		again := given && r.Generation != in.Generation
		r.Generation = in.Generation
		if !again {
			return
		}
	}
	s.Rollout = &v1alpha1.RolloutStatus{Revision: in.Newest, Generation: in.Generation}
	switch {
	case in.Refused != "":
		s.fail(in, v1alpha1.RolloutRefused, ReasonRulesRefused, in.Refused)
	case in.Newest == s.Revision:
		s.enter(in, v1alpha1.RolloutRolling) // it is what nodes run, or were about to
	default:
		s.enter(in, v1alpha1.RolloutValidating)
	}
}

// enter begins a phase.
func (s *State) enter(in Input, phase v1alpha1.RolloutPhase) {
	r := s.Rollout
	r.Phase, r.Since = phase, at(in.Now)
	r.Validator, r.Canaries, r.Held, r.Reason, r.Message = "", nil, nil, "", ""
}

// fail ends a rollout.
func (s *State) fail(in Input, phase v1alpha1.RolloutPhase, reason, message string) {
	s.enter(in, phase)
	s.Rollout.Reason, s.Rollout.Message = reason, cut(message)
}

// roll has all nodes run the revision.
func (s *State) roll(in Input) {
	if s.Revision != s.Rollout.Revision {
		s.Previous, s.Revision = s.Revision, s.Rollout.Revision
	}
	for i := range in.Nodes {
		if n := &in.Nodes[i]; n.Needs && !n.runs(s.Revision) {
			return
		}
	}
	s.enter(in, v1alpha1.RolloutDone)
}

// count tells how many nodes run the revision.
func (s *State) count(in Input) {
	s.Rollout.Updated, s.Rollout.Desired = 0, 0
	for i := range in.Nodes {
		if n := &in.Nodes[i]; n.Needs {
			s.Rollout.Desired++
			if n.runs(s.Rollout.Revision) {
				s.Rollout.Updated++
			}
		}
	}
}

// runs tells whether a node's engines have loaded a revision.
func (n *Node) runs(revision string) bool {
	return n.Report != nil && n.Report.Revision == revision
}

// Counters of a node, as averages since its revision was loaded, over one minute at least.
func (n *Node) perMinute(count int64, now time.Time) float64 {
	minutes := 1.0
	if n.Report.Loaded != nil {
		minutes = max(minutes, now.Sub(n.Report.Loaded.Time).Minutes())
	}
	return float64(count) / minutes
}

func at(t time.Time) *metav1.Time {
	stamp := metav1.NewTime(t)
	return &stamp
}

// maxMessage is the length of a message in a status, in bytes.
const maxMessage = 2048

func cut(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	const mark = "…"
	n := maxMessage - len(mark)
	for n > 0 && text[n]&0xc0 == 0x80 {
		n--
	}
	return text[:n] + mark
}
