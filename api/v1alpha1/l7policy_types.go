package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=l7p,categories=meerkat
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`,description="Enforce denies what no rule allows; Audit only reports it."
// +kubebuilder:printcolumn:name="Scope",type=string,JSONPath=`.spec.scope`,description="NamedPorts governs the ports that rules name; AllPorts every port."
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="True when every node with selected Pods enforces the policy as it is written."
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="Why the policy is ready or not."
// +kubebuilder:printcolumn:name="Nodes",type=integer,priority=1,JSONPath=`.status.nodes.desired`,description="Nodes with selected Pods."
// +kubebuilder:printcolumn:name="Programmed",type=integer,priority=1,JSONPath=`.status.nodes.programmed`,description="How many of them apply the policy as it is written."
// +kubebuilder:printcolumn:name="Denied",type=integer,JSONPath=`.status.denied`,description="Requests and connections that were denied, over all nodes."
// +kubebuilder:printcolumn:name="Audited",type=integer,priority=1,JSONPath=`.status.audited`,description="What would have been denied, had mode been Enforce."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`

// L7Policy says which application-layer traffic Pods of its namespace may receive and send. It reads like a NetworkPolicy
// whose rules also name HTTP requests, gRPC calls, TLS server names, DNS names or protocols, and it stands beside the
// NetworkPolicies that the cluster's CNI plugin enforces: it only ever narrows what they allow. Several policies that select a
// Pod add up: what a rule of any of them allows, passes.
type L7Policy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which traffic of which Pods is governed, and what of it is allowed. An empty list of rules is not the same as none:
	// with scope AllPorts, "ingress: []" denies every connection to the selected Pods, while without the field their ingress is left
	// alone.
	// +required
	Spec L7PolicySpec `json:"spec"`

	// status is what the nodes report. It is written by Meerkat; leave it out.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status L7PolicyStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// L7PolicyList contains a list of L7Policy.
type L7PolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []L7Policy `json:"items"`
}

// L7PolicySpec says which traffic of which Pods is governed, and what of it is allowed.
//
// An empty list of rules is not the same as none: with scope AllPorts, "ingress: []" denies every connection to the selected
// Pods, while without the field their ingress is left alone.
//
// +kubebuilder:validation:XValidation:rule="has(self.ingress) || has(self.egress)",message="the policy governs nothing: add rules to ingress or egress; to deny a whole direction, set scope: AllPorts and an empty list, ingress: [] or egress: []"
// +kubebuilder:validation:XValidation:rule="!has(self.ingress) || size(self.ingress) > 0 || (has(self.scope) && self.scope == 'AllPorts')",message="an empty ingress governs nothing with scope NamedPorts: leave ingress out, or set scope: AllPorts to deny the whole direction"
// +kubebuilder:validation:XValidation:rule="!has(self.egress) || size(self.egress) > 0 || (has(self.scope) && self.scope == 'AllPorts')",message="an empty egress governs nothing with scope NamedPorts: leave egress out, or set scope: AllPorts to deny the whole direction"
// +kubebuilder:validation:XValidation:rule="!has(self.ingress) || !has(self.egress) || !self.ingress.exists(i, has(i.name) && self.egress.exists(e, has(e.name) && e.name == i.name))",message="an ingress and an egress rule have the same name, but events and metrics tell rules apart by name: rename one of them"
type L7PolicySpec struct {
	// podSelector selects the Pods of the policy's own namespace that it governs, by their labels. An empty selector, {},
	// selects all of them. Example: {matchLabels: {app: web}}.
	// +required
	PodSelector metav1.LabelSelector `json:"podSelector"`

	// scope says which ports of the selected Pods are governed, in each direction that has rules.
	// NamedPorts (the default) governs the ports that rules name: there, only what some rule allows passes, and ports that no
	// rule names are left alone. A rule without ports names them all.
	// AllPorts isolates the whole direction, as a NetworkPolicy does: what no rule allows is denied on every port.
	// +kubebuilder:default=NamedPorts
	// +optional
	Scope Scope `json:"scope,omitempty"`

	// mode is Enforce (the default), which denies what no rule allows, or Audit, which drops nothing and reports everything
	// that Enforce would have denied. A port that a policy in mode Enforce governs too is enforced.
	// +kubebuilder:default=Enforce
	// +optional
	Mode Mode `json:"mode,omitempty"`

	// failurePolicy says what happens to connections whose rules have l7 while the engine does not inspect, because it has
	// failed, hangs or starts: Closed (the default) drops them, Open lets them pass uninspected. Where several policies govern a
	// port, they pass only if all of them say Open. In mode Audit they pass in any case.
	// +kubebuilder:default=Closed
	// +optional
	FailurePolicy FailurePolicy `json:"failurePolicy,omitempty"`

	// denyAction says how a TCP connection learns that it was denied: Reset (the default) sends a TCP reset to both ends, so
	// that clients fail at once; Drop sends nothing, so that they wait for a timeout. Other protocols are dropped either way.
	// +kubebuilder:default=Reset
	// +optional
	DenyAction DenyAction `json:"denyAction,omitempty"`

	// ingress lists what the selected Pods may receive. Rules add up, and their order does not matter. Left out, ingress is not
	// governed. At most 64 rules; split a longer list into several policies, which add up too.
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(r, !has(r.name) || self.exists_one(o, has(o.name) && o.name == r.name))",message="two ingress rules have the same name, but events and metrics tell rules apart by name: rename one of them"
	// +listType=atomic
	// +optional
	Ingress []IngressRule `json:"ingress,omitzero"`

	// egress lists what the selected Pods may send. Rules add up, and their order does not matter. Left out, egress is not
	// governed. At most 64 rules; split a longer list into several policies, which add up too.
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(r, !has(r.name) || self.exists_one(o, has(o.name) && o.name == r.name))",message="two egress rules have the same name, but events and metrics tell rules apart by name: rename one of them"
	// +listType=atomic
	// +optional
	Egress []EgressRule `json:"egress,omitzero"`
}

// Scope says which ports a policy governs.
// +kubebuilder:validation:Enum=NamedPorts;AllPorts
type Scope string

// Scopes.
const (
	// ScopeNamedPorts governs the ports that rules name.
	ScopeNamedPorts Scope = "NamedPorts"
	// ScopeAllPorts governs every port, in each direction that the policy has.
	ScopeAllPorts Scope = "AllPorts"
)

// Mode says whether a policy is enforced.
// +kubebuilder:validation:Enum=Enforce;Audit
type Mode string

// Modes.
const (
	// ModeEnforce denies what no rule allows.
	ModeEnforce Mode = "Enforce"
	// ModeAudit reports what no rule allows, and lets it pass.
	ModeAudit Mode = "Audit"
)

// FailurePolicy says what happens to inspected connections while the engine does not inspect.
// +kubebuilder:validation:Enum=Closed;Open
type FailurePolicy string

// Failure policies.
const (
	// FailClosed drops them.
	FailClosed FailurePolicy = "Closed"
	// FailOpen lets them pass uninspected.
	FailOpen FailurePolicy = "Open"
)

// DenyAction says how a denied TCP connection ends.
// +kubebuilder:validation:Enum=Reset;Drop
type DenyAction string

// Deny actions.
const (
	// DenyReset sends a TCP reset to both ends.
	DenyReset DenyAction = "Reset"
	// DenyDrop lets packets vanish.
	DenyDrop DenyAction = "Drop"
)
