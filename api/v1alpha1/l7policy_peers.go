package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Peer is the other side of a connection: Pods, chosen by their labels and their namespace's, or a range of addresses.
//
// +kubebuilder:validation:XValidation:rule="!has(self.ipBlock) || (!has(self.podSelector) && !has(self.namespaceSelector))",message="ipBlock stands alone: give the selectors a list item of their own"
type Peer struct {
	// podSelector selects Pods by their labels: in the policy's own namespace or, beside a namespaceSelector, in the namespaces
	// that are selected there. An empty selector, {}, selects every Pod of these.
	// +optional
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`

	// namespaceSelector selects namespaces by their labels: all of their Pods, or those that podSelector selects. An empty
	// selector, {}, selects every namespace. By name: {matchLabels: {kubernetes.io/metadata.name: shop}}.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// ipBlock is a range of addresses, for peers outside of the cluster. It stands alone.
	// +optional
	IPBlock *IPBlock `json:"ipBlock,omitempty"`
}

// EgressPeer is whom a connection goes to: a Peer, or a Service.
//
// +kubebuilder:validation:XValidation:rule="has(self.service) || has(self.podSelector) || has(self.namespaceSelector) || has(self.ipBlock)",message="the peer is empty: set podSelector, namespaceSelector, ipBlock or service; to allow everybody, leave to out"
// +kubebuilder:validation:XValidation:rule="!has(self.service) || (!has(self.podSelector) && !has(self.namespaceSelector) && !has(self.ipBlock))",message="service stands alone: give the other peers list items of their own"
type EgressPeer struct {
	Peer `json:",inline"`

	// service names a Service and one of its ports. It stands for the Service's endpoints and their ports, whatever those are.
	// It stands alone.
	// +optional
	Service *ServicePeer `json:"service,omitempty"`
}

// IPBlock is a range of addresses, less some of its parts.
//
// +kubebuilder:validation:XValidation:rule="!has(self.except) || !isCIDR(self.cidr) || self.except.all(e, !isCIDR(e) || (cidr(self.cidr).containsCIDR(e) && e != self.cidr))",message="each except must lie within cidr and be smaller than it: narrow the except, widen cidr, or leave the except out"
type IPBlock struct {
	// cidr is the range, IPv4 or IPv6, without bits beyond its prefix length. Examples: 192.0.2.0/24, 192.0.2.7/32,
	// 2001:db8::/32, 0.0.0.0/0.
	// +kubebuilder:validation:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="isCIDR(self) && cidr(self).masked() == cidr(self)",message="cidr must be a network such as 192.0.2.0/24 or 2001:db8::/32, with no bits set beyond its prefix length; for one address write /32 (IPv4) or /128 (IPv6)"
	// +required
	CIDR string `json:"cidr"`

	// except lists parts of cidr that do not belong to the peer. Example: [192.0.2.9/32].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self) && cidr(self).masked() == cidr(self)",message="an except must be a network such as 192.0.2.0/28, with no bits set beyond its prefix length; for one address write /32 (IPv4) or /128 (IPv6)"
	// +listType=atomic
	// +optional
	Except []string `json:"except,omitempty"`
}

// ServicePeer names a Service and, unless all are meant, one of its ports. It is resolved to the Service's endpoints and their
// ports, so that the policy stays right when these change.
type ServicePeer struct {
	// name is the Service's name.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +required
	Name string `json:"name"`

	// namespace is the Service's namespace; left out, the policy's own.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// port is the Service's own port, by number (1 to 65535) or by name; left out, all its ports. Examples: 443, https.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="type(self) != int || (self >= 1 && self <= 65535)",message="a port's number is from 1 to 65535; leave port out for every port"
	// +optional
	Port *PortRef `json:"port,omitempty"`
}
