package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeRuleSet is what a node has made of a RuleSet or ClusterRuleSet. Which revision it is to run, RuleSetStatus.RunsRevision says;
// which it is to validate, RolloutStatus.Validator.
type NodeRuleSet struct {
	// kind is RuleSet or ClusterRuleSet.
	// +kubebuilder:validation:Enum=RuleSet;ClusterRuleSet
	// +required
	Kind string `json:"kind"`

	// namespace is the RuleSet's; empty for a ClusterRuleSet.
	// +kubebuilder:validation:MaxLength=63
	// +required
	Namespace string `json:"namespace"`

	// name is the rule set's.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`

	// revision is the one that the node's engines have loaded, read back from them; empty for none. While they change over, it is the
	// one before.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Revision string `json:"revision,omitempty"`

	// loaded is when they had loaded it.
	// +optional
	Loaded *metav1.Time `json:"loaded,omitempty"`

	// healthy tells whether these engines inspect at present: packets come back from them, or their copies are read.
	// +required
	Healthy bool `json:"healthy"`

	// reason says in one word why the node does not run what it is to run, or why its engines are not healthy. Example: RulesRefused.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`

	// message says it in sentences, with what to do.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	Message string `json:"message,omitempty"`

	// alerts counts the alerts of the rule set's rules since the revision was loaded.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Alerts int64 `json:"alerts"`

	// drops counts the packets and flows that they dropped since then.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Drops int64 `json:"drops"`

	// validation is the outcome when the manager has asked the node to validate a revision.
	// +optional
	Validation *NodeValidation `json:"validation,omitempty"`
}

// NodeValidation tells what a node's engine says of a revision: of each of its rules, whether it loads.
type NodeValidation struct {
	// revision is the one that was validated.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +required
	Revision string `json:"revision"`

	// engineVersion is the engine's. Example: 8.0.8.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	EngineVersion string `json:"engineVersion,omitempty"`

	// error says why the node could not have it validated, so that another must; then there is no verdict, and rules are not counted.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	Error string `json:"error,omitempty"`

	// loaded is how many rules the engine loads.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Loaded int32 `json:"loaded"`

	// failed is how many it refuses.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Failed int32 `json:"failed"`

	// skipped is how many it leaves out, since they are for a protocol or a feature that it does not have.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Skipped int32 `json:"skipped"`

	// failures are the first twenty that it refuses.
	// +kubebuilder:validation:MaxItems=20
	// +listType=atomic
	// +optional
	Failures []NodeRuleFailure `json:"failures,omitempty"`
}

// NodeRuleFailure is a rule of a revision that an engine refuses.
type NodeRuleFailure struct {
	// line is the rule's in the revision's file, from 1; 0 where the engine tells none.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Line int32 `json:"line"`

	// sid is the rule's number, where it has one.
	// +optional
	SID int64 `json:"sid,omitempty"`

	// reason is what the engine says.
	// +kubebuilder:validation:MaxLength=1024
	// +required
	Reason string `json:"reason"`
}

// NodeTrafficInspection is what a node has made of a TrafficInspection.
type NodeTrafficInspection struct {
	// namespace is the inspection's.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Namespace string `json:"namespace"`

	// name is the inspection's.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`

	// observedGeneration is the inspection's metadata.generation that this is about.
	// +kubebuilder:validation:Minimum=0
	// +required
	ObservedGeneration int64 `json:"observedGeneration"`

	// programmed tells whether the node gives the traffic to an engine that has loaded the rule sets, read back from switch and engine.
	// +required
	Programmed bool `json:"programmed"`

	// reason says in one word why programmed is false. Example: RulesRefused.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`

	// message says in sentences why programmed is false, and what to do.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	Message string `json:"message,omitempty"`

	// degraded says in one word what needs a look although the inspection is programmed; empty when nothing does.
	// Example: EngineNotInspecting.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Degraded string `json:"degraded,omitempty"`

	// degradedMessage says it in sentences.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	DegradedMessage string `json:"degradedMessage,omitempty"`

	// inspected tells whether an engine looks at the traffic now. It is false while the engine does not inspect, when failurePolicy
	// holds in mode Prevent.
	// +required
	Inspected bool `json:"inspected"`

	// pods counts the Pods of the node that the inspection selects.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Pods int32 `json:"pods"`

	// alerts counts the alerts that the node raised on the inspection's account since its agent started to count.
	// +optional
	Alerts *AlertCounts `json:"alerts,omitempty"`

	// lastSignatures are the signatures that matched last on the node, the latest first, with counts since its agent started to count;
	// at most ten.
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	// +optional
	LastSignatures []SignatureCount `json:"lastSignatures,omitempty"`
}
