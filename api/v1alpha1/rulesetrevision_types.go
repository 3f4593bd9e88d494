package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MaxRevisionPart is how much of a revision's content one RuleSetRevision holds at most, in bytes, compressed.
const MaxRevisionPart = 512 << 10

// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=mrr
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.revision`,description="The revision that it is a part of."
// +kubebuilder:printcolumn:name="Part",type=integer,JSONPath=`.part`,description="Which of its parts, from 0."
// +kubebuilder:printcolumn:name="Parts",type=integer,JSONPath=`.parts`,description="How many parts it has."
// +kubebuilder:printcolumn:name="Size",type=integer,JSONPath=`.size`,description="The length of the rules, in bytes, when they are put together and unpacked."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.revision == oldSelf.revision && self.part == oldSelf.part && self.parts == oldSelf.parts && self.size == oldSelf.size && self.sha256 == oldSelf.sha256 && self.content == oldSelf.content && has(self.variables) == has(oldSelf.variables) && (!has(self.variables) || self.variables == oldSelf.variables)",message="a RuleSetRevision does not change: the manager makes another for other rules"

// RuleSetRevision holds the rules of one revision of rule sets, or a part of them, as every engine loads them. The manager writes it and
// deletes it when no rule set needs it. Agents do not watch it: they get it by name, which is the revision's for the first part
// (3f2a9c0b71de), and has a number for others (3f2a9c0b71de-1). People only read it.
type RuleSetRevision struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// revision is the one that this is a part of. Example: 3f2a9c0b71de.
	// +kubebuilder:validation:MaxLength=12
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{12}$`
	// +required
	Revision string `json:"revision"`

	// part is which of its parts this is, from 0.
	// +kubebuilder:validation:Minimum=0
	// +required
	Part int32 `json:"part"`

	// parts is how many it has.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	// +required
	Parts int32 `json:"parts"`

	// size is the length of the rules in bytes, when the parts are put together and unpacked.
	// +kubebuilder:validation:Minimum=0
	// +required
	Size int64 `json:"size"`

	// sha256 is the hash of the rules then, in hexadecimal.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
	// +required
	SHA256 string `json:"sha256"`

	// content is the part itself, of the rules compressed by gzip: 512 KiB at most.
	// +kubebuilder:validation:MaxLength=699052
	// +required
	Content []byte `json:"content"`

	// variables are what $NAMES in the rules stand for.
	// +optional
	Variables *RuleVariables `json:"variables,omitempty"`
}

// +kubebuilder:object:root=true

// RuleSetRevisionList contains a list of RuleSetRevision.
type RuleSetRevisionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RuleSetRevision `json:"items"`
}
