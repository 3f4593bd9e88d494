package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RuleSetStatus is what became of a rule set.
type RuleSetStatus struct {
	// observedGeneration is the metadata.generation that this status is about; -1 until the manager has looked for the first time.
	// +kubebuilder:validation:Minimum=-1
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Accepted (the spec makes sense), ResolvedRefs (every source could be read), Validated (the engine has loaded the
	// newest revision), Programmed (every node that needs it runs it), Degraded (an older revision is run, or the newest was rolled
	// back), Ready (the summary) and Stalled (only a change by a person can help).
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// revision is what nodes run, or are to run: the first twelve digits of the hash of all that it is made of. Nodes that rollout.canaries
	// names are the exception: while there are such, they run rollout.revision. That is all that a node needs to know.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Revision string `json:"revision,omitempty"`

	// previous is what nodes ran before revision. It is kept.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Previous string `json:"previous,omitempty"`

	// rules counts the rules of the newest revision.
	// +optional
	Rules *RuleCounts `json:"rules,omitempty"`

	// failures are the first twenty rules of the newest revision that cannot be loaded.
	// +kubebuilder:validation:MaxItems=20
	// +listType=atomic
	// +optional
	Failures []RuleFailure `json:"failures,omitempty"`

	// sources say when each source was last read, and what it held.
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	// +optional
	Sources []RuleSourceStatus `json:"sources,omitempty"`

	// rollout tells how far the newest revision has come.
	// +optional
	Rollout *RolloutStatus `json:"rollout,omitempty"`
}

// RuleCounts counts rules.
type RuleCounts struct {
	// loaded is how many the engine has loaded.
	// +kubebuilder:validation:Minimum=0
	// +required
	Loaded int32 `json:"loaded"`

	// failed is how many it refuses, or Meerkat does.
	// +kubebuilder:validation:Minimum=0
	// +required
	Failed int32 `json:"failed"`

	// skipped is how many it leaves out, since they are for a protocol or a feature that it does not have.
	// +kubebuilder:validation:Minimum=0
	// +required
	Skipped int32 `json:"skipped"`

	// disabled is how many are switched off.
	// +kubebuilder:validation:Minimum=0
	// +required
	Disabled int32 `json:"disabled"`
}

// RuleFailure is a rule that cannot be loaded.
type RuleFailure struct {
	// source is the name of the source that it is from.
	// +kubebuilder:validation:MaxLength=63
	// +required
	Source string `json:"source"`

	// file is the file of the source that it is in.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	File string `json:"file,omitempty"`

	// line is its line in the file, from 1.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Line int32 `json:"line,omitempty"`

	// sid is the rule's number, where it has one.
	// +optional
	SID int64 `json:"sid,omitempty"`

	// reason says why, and what to do.
	// +kubebuilder:validation:MaxLength=1024
	// +required
	Reason string `json:"reason"`
}

// RuleSourceStatus is what a source held.
type RuleSourceStatus struct {
	// name is the source's.
	// +kubebuilder:validation:MaxLength=63
	// +required
	Name string `json:"name"`

	// sha256 is the hash of what was read, in hexadecimal.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	SHA256 string `json:"sha256,omitempty"`

	// rules counts the rules in it, those that are switched off included.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Rules int32 `json:"rules"`

	// fetched is when that was read.
	// +optional
	Fetched *metav1.Time `json:"fetched,omitempty"`

	// error says why it could not be read of late; what was read before is kept.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Error string `json:"error,omitempty"`
}

// RolloutPhase is how far a revision has come.
// +kubebuilder:validation:Enum=Validating;Canary;Rolling;Done;RolledBack;Refused
type RolloutPhase string

// Phases of a rollout.
const (
	// RolloutValidating has an engine load it, apart from those that inspect.
	RolloutValidating RolloutPhase = "Validating"
	// RolloutCanary runs it on some nodes.
	RolloutCanary RolloutPhase = "Canary"
	// RolloutRolling brings it to the others.
	RolloutRolling RolloutPhase = "Rolling"
	// RolloutDone runs it everywhere.
	RolloutDone RolloutPhase = "Done"
	// RolloutRolledBack has gone back to the one before.
	RolloutRolledBack RolloutPhase = "RolledBack"
	// RolloutRefused never ran it, since the engine does not load it.
	RolloutRefused RolloutPhase = "Refused"
)

// RolloutStatus tells how far a revision has come. It is all that the manager remembers of a rollout.
type RolloutStatus struct {
	// revision is the newest one.
	// +kubebuilder:validation:MaxLength=64
	// +required
	Revision string `json:"revision"`

	// generation is the metadata.generation of the spec that made it.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Generation int64 `json:"generation,omitempty"`

	// phase is how far it has come.
	// +required
	Phase RolloutPhase `json:"phase"`

	// since is when that phase began or, in phase Validating, when the validator was chosen.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// validator is the node whose agent is to have its engine load the revision, apart from the engines that inspect, and to report the
	// outcome in its NodeInspection, while the phase is Validating.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Validator string `json:"validator,omitempty"`

	// canaries are all the nodes that run the revision while the phase is Canary; there are none in any other phase.
	// +kubebuilder:validation:MaxItems=100
	// +listType=map
	// +listMapKey=node
	// +optional
	Canaries []CanaryNode `json:"canaries,omitempty"`

	// held is when all canaries were first seen to run the revision: from then on it is held.
	// +optional
	Held *metav1.Time `json:"held,omitempty"`

	// reason says in one word why the revision was refused or rolled back. Example: TooManyAlerts.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`

	// message says it in sentences.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	Message string `json:"message,omitempty"`

	// updated is how many nodes run it, of those that need it.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Updated int32 `json:"updated"`

	// desired is how many nodes need it: those with Pods that an inspection with the rule set selects.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Desired int32 `json:"desired"`
}

// CanaryNode is a node that runs a new revision before others do.
type CanaryNode struct {
	// node is its name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Node string `json:"node"`

	// alertsPerMinute is how many alerts it raised in a minute under the revision before.
	// +kubebuilder:validation:Minimum=0
	// +optional
	AlertsPerMinute int32 `json:"alertsPerMinute"`

	// dropsPerMinute is how many packets and flows it dropped in a minute under the revision before.
	// +kubebuilder:validation:Minimum=0
	// +optional
	DropsPerMinute int32 `json:"dropsPerMinute"`

	// looks are what it had counted of late under the new revision, half a minute apart, the oldest first: what it does is judged since that.
	// There are none until it has run the revision for half a minute.
	// +kubebuilder:validation:MaxItems=3
	// +listType=atomic
	// +optional
	Looks []CanaryLook `json:"looks,omitempty"`
}

// CanaryLook is what a canary had counted at a time.
type CanaryLook struct {
	// at is that time.
	// +required
	At metav1.Time `json:"at"`

	// alerts are those that it had raised since it loaded the revision.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Alerts int64 `json:"alerts"`

	// drops are the packets and flows that it had dropped since then.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Drops int64 `json:"drops"`
}

// ConditionValidated says that the engine has loaded a RuleSet's newest revision.
const ConditionValidated = "Validated"

// RunsRevision is the revision of the rule set that a node runs: the canaries' for those that are named among them, and else that of all
// nodes; empty for none yet. Agents and the manager share it.
func (s *RuleSetStatus) RunsRevision(node string) string {
	if s.IsCanary(node) {
		return s.Rollout.Revision
	}
	return s.Revision
}

// IsCanary tells whether a node runs the newest revision before others do.
func (s *RuleSetStatus) IsCanary(node string) bool {
	if r := s.Rollout; r != nil && r.Phase == RolloutCanary {
		for i := range r.Canaries {
			if r.Canaries[i].Node == node {
				return true
			}
		}
	}
	return false
}
