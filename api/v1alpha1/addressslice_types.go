package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// LabelPeerSelector is the label of an AddressSlice whose value is the key of the peer selector that the slice belongs to. All
// slices of one selector have the same value.
const LabelPeerSelector = "inspection.meerkat.dev/peer-selector"

// MaxPeersPerSlice is how many peers one AddressSlice holds at most.
const MaxPeersPerSlice = 1000

// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=asl,categories=meerkat
// +kubebuilder:printcolumn:name="Selector",type=string,JSONPath=`.metadata.labels.inspection\.meerkat\.dev/peer-selector`,description="Key of the peer selector."
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.selector.namespace`,description="Where its Pods are, when the selector names no other namespaces."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`

// AddressSlice holds a part of the Pods that one peer selector of policies selects, with their addresses, as an EndpointSlice
// does for a Service. The manager writes it, so that node agents need not watch all Pods of the cluster. People only read it:
// what is changed by hand is put back.
type AddressSlice struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// selector is the peer selector that the slice belongs to. It does not change.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the selector of an AddressSlice does not change: the manager makes another slice for another selector"
	// +required
	Selector PeerSelector `json:"selector"`

	// peers are Pods that the selector selects, at most 1,000 of them; the selector's other slices hold the others. Pods that use
	// their node's network have no addresses here, since they cannot be told from their node.
	// +kubebuilder:validation:MaxItems=1000
	// +listType=map
	// +listMapKey=namespace
	// +listMapKey=name
	// +optional
	Peers []PeerAddresses `json:"peers,omitempty"`
}

// +kubebuilder:object:root=true

// AddressSliceList contains a list of AddressSlice.
type AddressSliceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AddressSlice `json:"items"`
}

// PeerSelector selects Pods as a peer of a rule does.
type PeerSelector struct {
	// namespace is the one whose Pods are meant, when the peer has no namespaceSelector: the policy's own. Example: shop.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// namespaceSelector selects the namespaces by their labels, as in the peer.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// podSelector selects Pods by their labels, as in the peer. Left out, it selects all Pods of the namespaces.
	// +optional
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`
}

// PeerAddresses is a Pod that a peer selector selects.
type PeerAddresses struct {
	// namespace is the Pod's. Example: shop.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Namespace string `json:"namespace"`

	// name is the Pod's. Example: web-0.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`

	// addresses are the Pod's IP addresses, without a prefix length. Empty for a Pod that uses its node's network.
	// Example: [10.0.1.7, "fd00:1::7"].
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=45
	// +listType=set
	// +optional
	Addresses []string `json:"addresses,omitempty"`

	// ports are the named ports of the Pod's containers, for rules that name a port.
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	// +optional
	Ports []PeerPort `json:"ports,omitempty"`
}

// PeerPort is a named port of a container.
type PeerPort struct {
	// name is the port's name in the container. Example: http.
	// +kubebuilder:validation:MaxLength=15
	// +required
	Name string `json:"name"`

	// protocol is TCP (the default), UDP or SCTP.
	// +kubebuilder:validation:Enum=TCP;UDP;SCTP
	// +kubebuilder:default=TCP
	// +optional
	Protocol corev1.Protocol `json:"protocol,omitempty"`

	// port is its number. Example: 8080.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +required
	Port int32 `json:"port"`
}
