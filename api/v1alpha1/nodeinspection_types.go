package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=nins,categories=meerkat
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="True when the node enforces all policies of its Pods."
// +kubebuilder:printcolumn:name="Engine",type=string,JSONPath=`.status.conditions[?(@.type=="EngineInspecting")].status`,description="True when packets come back from the engine."
// +kubebuilder:printcolumn:name="Flows",type=string,JSONPath=`.status.conditions[?(@.type=="FlowsIntact")].status`,description="True when nobody else changed the flows of late."
// +kubebuilder:printcolumn:name="Governed",type=integer,JSONPath=`.status.governedPods`,description="Pods behind the bridge."
// +kubebuilder:printcolumn:name="Policies",type=integer,JSONPath=`.status.policyCount`,description="Policies that select Pods of the node."
// +kubebuilder:printcolumn:name="Restarts",type=integer,JSONPath=`.status.engine.restarts`,priority=1,description="Restarts of the engine since the agent started."
// +kubebuilder:printcolumn:name="Reported",type=date,JSONPath=`.status.reported`,description="When the agent last reported."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`,priority=1

// NodeInspection is what one node has applied, read back from its switch and its engine. It has the node's name. The node's
// agent writes it; people only read it.
type NodeInspection struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is the report of the node's agent.
	// +optional
	Status NodeInspectionStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// NodeInspectionList contains a list of NodeInspection.
type NodeInspectionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeInspection `json:"items"`
}

// NodeInspectionStatus is the report of a node's agent.
type NodeInspectionStatus struct {
	// conditions are EngineInspecting (packets of inspected connections come back from the engine), FlowsIntact (the bridge is
	// reachable, and nobody else changed its flows of late), Ready (the summary), EventsDelivered (the outputs of Engine.spec.outputs
	// take the node's events) and Detached (the agent has put every Pod back and left the node, since the Engine is being deleted).
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// reported is when the agent last wrote this. It writes at most about once a second, and at least once a minute: a report
	// that is older than three minutes tells of an agent that is away.
	// +optional
	Reported *metav1.Time `json:"reported,omitempty"`

	// agentVersion is the version of the agent. Example: v0.1.0.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	AgentVersion string `json:"agentVersion,omitempty"`

	// governedPods counts the node's Pods that are behind the bridge.
	// +kubebuilder:validation:Minimum=0
	// +optional
	GovernedPods int32 `json:"governedPods"`

	// policyCount counts the policies that select Pods of the node.
	// +kubebuilder:validation:Minimum=0
	// +optional
	PolicyCount int32 `json:"policyCount"`

	// policies are those that select Pods of the node, at most 2,000 of them.
	// +kubebuilder:validation:MaxItems=2000
	// +listType=map
	// +listMapKey=namespace
	// +listMapKey=name
	// +optional
	Policies []NodePolicy `json:"policies,omitempty"`

	// engine is the node's engine.
	// +optional
	Engine *NodeEngine `json:"engine,omitempty"`

	// ruleSets are the signatures that the node's engines have loaded, and those that the manager has asked the node to validate; at
	// most 256.
	// +kubebuilder:validation:MaxItems=256
	// +listType=map
	// +listMapKey=kind
	// +listMapKey=namespace
	// +listMapKey=name
	// +optional
	RuleSets []NodeRuleSet `json:"ruleSets,omitempty"`

	// inspections are the TrafficInspections that select Pods of the node, at most 1,000 of them.
	// +kubebuilder:validation:MaxItems=1000
	// +listType=map
	// +listMapKey=namespace
	// +listMapKey=name
	// +optional
	Inspections []NodeTrafficInspection `json:"inspections,omitempty"`

	// flowExports are the FlowExports, at most 100 of them.
	// +kubebuilder:validation:MaxItems=100
	// +listType=map
	// +listMapKey=name
	// +optional
	FlowExports []NodeFlowExport `json:"flowExports,omitempty"`
}

// NodePolicy is what a node has made of a policy.
type NodePolicy struct {
	// namespace is the policy's.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Namespace string `json:"namespace"`

	// name is the policy's.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`

	// observedGeneration is the policy's metadata.generation that this is about.
	// +kubebuilder:validation:Minimum=0
	// +required
	ObservedGeneration int64 `json:"observedGeneration"`

	// programmed tells whether the node does what the policy says, read back from its switch and engine.
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

	// degraded says in one word what needs a look although the policy is programmed; empty when nothing does.
	// Example: FlowsOverwritten.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Degraded string `json:"degraded,omitempty"`

	// degradedMessage says it in sentences.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	DegradedMessage string `json:"degradedMessage,omitempty"`

	// enforced tells whether packets are judged by the policy now. It may be true while degraded is set, and is false while the
	// engine does not inspect, when failurePolicy holds.
	// +required
	Enforced bool `json:"enforced"`

	// pods counts the Pods of the node that the policy selects.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Pods int32 `json:"pods"`

	// denied counts the requests and connections that the node denied on the policy's account since its agent started to count.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Denied int64 `json:"denied,omitempty"`

	// audited counts what would have been denied, had mode been Enforce.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Audited int64 `json:"audited,omitempty"`

	// lastDenied is when something was last denied or audited on the policy's account.
	// +optional
	LastDenied *metav1.Time `json:"lastDenied,omitempty"`
}

// NodeEngine is a node's engine.
type NodeEngine struct {
	// version is Suricata's. Example: 8.0.8.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Version string `json:"version,omitempty"`

	// ruleSets counts the rule sets that are loaded.
	// +kubebuilder:validation:Minimum=0
	// +optional
	RuleSets int32 `json:"ruleSets"`

	// rules counts the rules that are loaded.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Rules int32 `json:"rules"`

	// restarts counts the engine's restarts since the agent started.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Restarts int32 `json:"restarts"`
}

// Condition types of a NodeInspection, beside Ready.
const (
	ConditionEngineInspecting = "EngineInspecting"
	ConditionFlowsIntact      = "FlowsIntact"
	ConditionDetached         = "Detached"
)
