package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// L7PolicyStatus is what the nodes report.
type L7PolicyStatus struct {
	// observedGeneration is the metadata.generation that this status is about; -1 until the manager has looked for the first time.
	// +kubebuilder:validation:Minimum=-1
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Accepted (the policy can be enforced as it is written), ResolvedRefs (what it refers to exists),
	// Programmed (every node with selected Pods applies it), Degraded (it is applied, but something about it needs a look),
	// Ready (the summary) and Stalled (only a change by a person can help).
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// nodes counts the nodes that have selected Pods.
	// +optional
	Nodes *NodeCounts `json:"nodes,omitempty"`

	// denied counts the requests and connections that were denied on the policy's account, over all nodes and since it was
	// created. Written at most once a minute.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Denied int64 `json:"denied,omitempty"`

	// audited counts what would have been denied, had mode been Enforce. Written at most once a minute.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Audited int64 `json:"audited,omitempty"`

	// lastDenied is when something was last denied or audited.
	// +optional
	LastDenied *metav1.Time `json:"lastDenied,omitempty"`
}

// NodeCounts counts the nodes that have Pods which a policy selects.
type NodeCounts struct {
	// desired is how many nodes have selected Pods.
	// +kubebuilder:validation:Minimum=0
	// +required
	Desired int32 `json:"desired"`

	// programmed is how many of them apply the policy as it is written, read back from the node's switch and engine.
	// +kubebuilder:validation:Minimum=0
	// +required
	Programmed int32 `json:"programmed"`

	// failing names nodes that do not, at most ten of them.
	// +kubebuilder:validation:MaxItems=10
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=atomic
	// +optional
	Failing []string `json:"failing,omitempty"`
}

// Condition types of an L7Policy.
const (
	ConditionAccepted     = "Accepted"
	ConditionResolvedRefs = "ResolvedRefs"
	ConditionProgrammed   = "Programmed"
	ConditionDegraded     = "Degraded"
	ConditionReady        = "Ready"
	ConditionStalled      = "Stalled"
)
