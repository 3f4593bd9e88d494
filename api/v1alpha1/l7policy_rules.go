package v1alpha1

// IngressRule allows traffic to the selected Pods that comes from one of its peers, to one of its ports, and that one of its
// l7 entries matches. A field that is left out allows everything of its kind.
//
// +kubebuilder:validation:XValidation:rule="!has(self.l7) || !has(self.ports) || !self.ports.exists(p, has(p.protocol) && p.protocol == 'SCTP')",message="l7 cannot look into SCTP: move the SCTP ports to a rule without l7"
// +kubebuilder:validation:XValidation:rule="!has(self.l7) || !has(self.ports) || !self.l7.exists(m, has(m.http) || has(m.grpc) || has(m.tls)) || self.ports.exists(p, !has(p.protocol) || p.protocol == 'TCP')",message="http, grpc and tls run over TCP, but the rule has no TCP port: set protocol: TCP on a port, or use dns or protocol in l7"
type IngressRule struct {
	// name tells the rule apart in events, metrics, the engine's records and `meerkat trace`. It is unique in the policy; lower
	// case letters, digits and '-', at most 63 characters. Left out, the rule is called by its place: ingress[0]. Give names:
	// counters belong to the name and survive a change of order. Example: public-pages.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	Name string `json:"name,omitempty"`

	// from lists who may send; one of them is enough. Left out, everybody may.
	// Example: [{podSelector: {matchLabels: {role: client}}}, {ipBlock: {cidr: 192.0.2.0/24}}].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:XValidation:rule="has(self.podSelector) || has(self.namespaceSelector) || has(self.ipBlock)",message="the peer is empty: set podSelector, namespaceSelector or ipBlock; to allow everybody, leave from out"
	// +listType=atomic
	// +optional
	From []Peer `json:"from,omitempty"`

	// ports lists the selected Pods' own ports (not a Service's) that the rule is for; one of them is enough. Left out, every
	// port. Example: [{protocol: TCP, port: http}, {port: 8000, endPort: 8099}].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Ports []PolicyPort `json:"ports,omitempty"`

	// l7 lists what may be sent over these connections; one entry that matches is enough. Each request is judged, also when
	// several share a connection. Left out, everything may, and the connections are not inspected.
	// Example: [{http: {methods: [GET], path: {prefix: /public/}}}].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	L7 []L7Match `json:"l7,omitempty"`
}

// EgressRule allows traffic from the selected Pods that goes to one of its peers, to one of its ports, and that one of its l7
// entries matches. A field that is left out allows everything of its kind.
//
// +kubebuilder:validation:XValidation:rule="!has(self.l7) || !has(self.ports) || !self.ports.exists(p, has(p.protocol) && p.protocol == 'SCTP')",message="l7 cannot look into SCTP: move the SCTP ports to a rule without l7"
// +kubebuilder:validation:XValidation:rule="!has(self.l7) || !has(self.ports) || !self.l7.exists(m, has(m.http) || has(m.grpc) || has(m.tls)) || self.ports.exists(p, !has(p.protocol) || p.protocol == 'TCP')",message="http, grpc and tls run over TCP, but the rule has no TCP port: set protocol: TCP on a port, or use dns or protocol in l7"
type EgressRule struct {
	// name tells the rule apart in events, metrics, the engine's records and `meerkat trace`. It is unique in the policy; lower
	// case letters, digits and '-', at most 63 characters. Left out, the rule is called by its place: egress[0]. Give names:
	// counters belong to the name and survive a change of order. Example: payments.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	Name string `json:"name,omitempty"`

	// to lists whom the selected Pods may reach; one of them is enough. Left out, everybody.
	// Example: [{service: {name: payments, port: https}}].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	To []EgressPeer `json:"to,omitempty"`

	// ports lists the destination's ports that the rule is for, as the destination Pod or host knows them: behind a Service,
	// the endpoints' port, not the Service's. One of them is enough. Left out, every port.
	// Example: [{protocol: UDP, port: 53}].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Ports []PolicyPort `json:"ports,omitempty"`

	// l7 lists what may be sent over these connections; one entry that matches is enough. Each request is judged, also when
	// several share a connection. Left out, everything may, and the connections are not inspected.
	// Example: [{tls: {serverNames: ["*.partner.example"]}}].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	L7 []L7Match `json:"l7,omitempty"`
}
