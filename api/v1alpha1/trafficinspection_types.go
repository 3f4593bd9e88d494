package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=tin,categories=meerkat
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`,description="Detect looks at a copy of the traffic; Prevent is inline and drops what signatures drop."
// +kubebuilder:printcolumn:name="Placement",type=string,JSONPath=`.spec.placement`,description="Where the engine runs: on the node, or in the Pod."
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="True when the traffic of all selected Pods is inspected as it is written."
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="Why the inspection is ready or not."
// +kubebuilder:printcolumn:name="Nodes",type=integer,priority=1,JSONPath=`.status.nodes.desired`,description="Nodes with selected Pods."
// +kubebuilder:printcolumn:name="Programmed",type=integer,priority=1,JSONPath=`.status.nodes.programmed`,description="How many of them inspect as it is written."
// +kubebuilder:printcolumn:name="Alerts",type=integer,JSONPath=`.status.alerts.total`,description="Alerts, over all nodes."
// +kubebuilder:printcolumn:name="High",type=integer,JSONPath=`.status.alerts.high`,description="Those of priority 1."
// +kubebuilder:printcolumn:name="Dropped",type=integer,priority=1,JSONPath=`.status.alerts.dropped`,description="Alerts whose packet was dropped."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`

// TrafficInspection runs signatures over the traffic of Pods of its namespace: over a copy of it (Detect), or inline (Prevent), where
// signatures that say drop deny. It stands beside L7Policies: what a policy denies is denied first, and what it allows is inspected.
type TrafficInspection struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which traffic of which Pods is inspected, and by what.
	// +required
	Spec TrafficInspectionSpec `json:"spec"`

	// status is what the nodes report. It is written by Meerkat; leave it out.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status TrafficInspectionStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// TrafficInspectionList contains a list of TrafficInspection.
type TrafficInspectionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficInspection `json:"items"`
}

// TrafficInspectionSpec says which traffic of which Pods is inspected, and by what.
//
// +kubebuilder:validation:XValidation:rule="!has(self.failurePolicy) || self.mode == 'Prevent'",message="failurePolicy is for mode Prevent: in mode Detect nothing waits for the engine; leave failurePolicy out, or set mode: Prevent"
// +kubebuilder:validation:XValidation:rule="self.mode != 'Prevent' || self.placement != 'Sidecar'",message="a sidecar looks at a copy and cannot be inline: leave placement out, or set mode: Detect"
// +kubebuilder:validation:XValidation:rule="!has(self.capture) || !self.capture.enabled || self.placement != 'Sidecar'",message="capture is for placement Node, where the node's agent sees the packets: leave placement out, or capture"
type TrafficInspectionSpec struct {
	// podSelector selects the Pods of the inspection's own namespace, by their labels. An empty selector, {}, selects all of them.
	// Example: {matchLabels: {app: web}}.
	// +required
	PodSelector metav1.LabelSelector `json:"podSelector"`

	// mode is Detect (the default), which gives a copy of both directions to an engine, so that the Pod's traffic never waits for it; or
	// Prevent, which has the traffic go through an engine, so that signatures that say drop deny.
	// +kubebuilder:default=Detect
	// +optional
	Mode InspectionMode `json:"mode,omitempty"`

	// placement is Node (the default), for an engine that the selected Pods of a node share; or Sidecar, for an engine in each Pod,
	// which new Pods get when they are created: for nodes whose network may not be touched, and for traffic inside of a Pod, behind a
	// service mesh's proxy.
	// +kubebuilder:default=Node
	// +optional
	Placement InspectionPlacement `json:"placement,omitempty"`

	// direction says which connections are meant, by who opens them: Ingress those to the Pod, Egress those from it, Both (the default).
	// Of each connection both directions are inspected.
	// +kubebuilder:default=Both
	// +optional
	Direction InspectionDirection `json:"direction,omitempty"`

	// ports are the ports that connections go to: of the Pod for ingress, of its peer for egress. Left out, all. At most 64.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Ports []PolicyPort `json:"ports,omitempty"`

	// ruleSets are the signatures, by name. At most 8.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:XValidation:rule="self.all(r, self.exists_one(o, o.name == r.name && (has(o.kind) ? o.kind : 'RuleSet') == (has(r.kind) ? r.kind : 'RuleSet')))",message="a rule set is named twice: leave one of them out"
	// +listType=atomic
	// +required
	RuleSets []RuleSetReference `json:"ruleSets"`

	// variables are what $NAMES in rules stand for, before the rule sets' own.
	// +optional
	Variables RuleVariables `json:"variables,omitempty"`

	// failurePolicy says what happens in mode Prevent while the engine does not inspect: Open (the default) lets connections pass
	// uninspected, Closed drops them.
	// +optional
	FailurePolicy FailurePolicy `json:"failurePolicy,omitempty"`

	// capture keeps the packets of connections that raise alerts, for kubectl meerkat pcap. Only with placement Node.
	// +optional
	Capture *PacketCapture `json:"capture,omitempty"`
}

// InspectionMode says whether an inspection is inline.
// +kubebuilder:validation:Enum=Detect;Prevent
type InspectionMode string

// Modes of inspections.
const (
	// InspectionDetect looks at a copy.
	InspectionDetect InspectionMode = "Detect"
	// InspectionPrevent is inline.
	InspectionPrevent InspectionMode = "Prevent"
)

// InspectionPlacement says where an engine runs.
// +kubebuilder:validation:Enum=Node;Sidecar
type InspectionPlacement string

// Placements of inspections.
const (
	// PlacementNode is an engine on the node, which Pods share.
	PlacementNode InspectionPlacement = "Node"
	// PlacementSidecar is an engine in each Pod.
	PlacementSidecar InspectionPlacement = "Sidecar"
)

// InspectionDirection says which connections are inspected, by who opens them.
// +kubebuilder:validation:Enum=Both;Ingress;Egress
type InspectionDirection string

// Directions of inspections.
const (
	// InspectBoth is all connections.
	InspectBoth InspectionDirection = "Both"
	// InspectIngress is those to the Pod.
	InspectIngress InspectionDirection = "Ingress"
	// InspectEgress is those from the Pod.
	InspectEgress InspectionDirection = "Egress"
)

// RuleSetReference names a RuleSet of the inspection's namespace, or a ClusterRuleSet.
type RuleSetReference struct {
	// kind is RuleSet, which is meant when it is left out, or ClusterRuleSet. (It has no default: one within a list would make every
	// client-side apply a change.)
	// +kubebuilder:validation:Enum=RuleSet;ClusterRuleSet
	// +optional
	Kind string `json:"kind,omitempty"`

	// name is its name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`
}

// KindOf is the kind that is meant: RuleSet or ClusterRuleSet.
func (r *RuleSetReference) KindOf() string {
	if r.Kind == "" {
		return "RuleSet"
	}
	return r.Kind
}

// PacketCapture keeps the packets of connections that raise alerts. They hold what the Pods send, as it is.
type PacketCapture struct {
	// enabled keeps packets.
	// +required
	Enabled bool `json:"enabled"`

	// maxBytes is how much is kept on each node, the oldest going first. 67108864 (64 MiB) by default.
	// +kubebuilder:validation:Minimum=1048576
	// +kubebuilder:validation:Maximum=17179869184
	// +kubebuilder:default=67108864
	// +optional
	MaxBytes int64 `json:"maxBytes,omitempty"`
}

// TrafficInspectionStatus is what the nodes report.
type TrafficInspectionStatus struct {
	// observedGeneration is the metadata.generation that this status is about; -1 until the manager has looked for the first time.
	// +kubebuilder:validation:Minimum=-1
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Accepted (the inspection can be done as it is written), ResolvedRefs (its rule sets exist), Programmed (every node
	// with selected Pods does it), Degraded (it is done, but something about it needs a look), Ready (the summary) and Stalled (only a
	// change by a person can help).
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// nodes counts the nodes that have selected Pods.
	// +optional
	Nodes *NodeCounts `json:"nodes,omitempty"`

	// alerts counts the alerts, over all nodes and since the inspection was created. Written at most once a minute.
	// +optional
	Alerts *AlertCounts `json:"alerts,omitempty"`

	// lastSignatures are the signatures that matched last, the latest first; at most ten.
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	// +optional
	LastSignatures []SignatureCount `json:"lastSignatures,omitempty"`
}

// AlertCounts counts alerts by severity, which is the priority of the signature's class.
type AlertCounts struct {
	// total is all of them.
	// +kubebuilder:validation:Minimum=0
	// +required
	Total int64 `json:"total"`

	// high is those of priority 1.
	// +kubebuilder:validation:Minimum=0
	// +optional
	High int64 `json:"high"`

	// medium is those of priority 2.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Medium int64 `json:"medium"`

	// low is all others.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Low int64 `json:"low"`

	// dropped is those whose packet was dropped, in mode Prevent.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Dropped int64 `json:"dropped"`

	// last is when the last one was raised.
	// +optional
	Last *metav1.Time `json:"last,omitempty"`
}

// SignatureCount counts the alerts of one signature.
type SignatureCount struct {
	// sid is the signature's number.
	// +required
	SID int64 `json:"sid"`

	// rev is its revision.
	// +optional
	Rev int64 `json:"rev,omitempty"`

	// message is what it says.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Message string `json:"message,omitempty"`

	// severity is the priority of its class: 1 is the highest.
	// +optional
	Severity int32 `json:"severity,omitempty"`

	// count is how many alerts it has raised.
	// +kubebuilder:validation:Minimum=0
	// +required
	Count int64 `json:"count"`

	// last is when it raised the last one.
	// +optional
	Last *metav1.Time `json:"last,omitempty"`
}
