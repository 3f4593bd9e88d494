package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=fx,categories=meerkat
// +kubebuilder:printcolumn:name="Protocols",type=string,JSONPath=`.status.protocols`,description="The protocols whose connections are exported; empty for all."
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="True when every node exports as it is written, and the collectors take it."
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="Why the export is ready or not."
// +kubebuilder:printcolumn:name="Nodes",type=integer,priority=1,JSONPath=`.status.nodes.desired`,description="Nodes that are to export."
// +kubebuilder:printcolumn:name="Programmed",type=integer,priority=1,JSONPath=`.status.nodes.programmed`,description="How many of them do as it is written."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`

// FlowExport has the nodes tell collectors, by IPFIX (RFC 7011), of the connections of Pods behind the bridge: who spoke to whom, how
// much, for how long, and what was denied, by which policy. Each node sends its own. A change takes hold within seconds, and restarts
// nothing. Several FlowExports know nothing of each other.
type FlowExport struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which connections are told of, and to whom.
	// +required
	Spec FlowExportSpec `json:"spec"`

	// status is what the nodes report. It is written by Meerkat; leave it out.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status FlowExportStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// FlowExportList contains a list of FlowExport.
type FlowExportList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []FlowExport `json:"items"`
}

// FlowExportSpec says which connections are told of, and to whom.
//
// +kubebuilder:validation:XValidation:rule="!has(self.idleTimeout) || !has(self.activeTimeout) || duration(self.idleTimeout) <= duration(self.activeTimeout)",message="idleTimeout is above activeTimeout: a connection that is idle would be told of as active before; lower idleTimeout, or raise activeTimeout"
type FlowExportSpec struct {
	// collectors are where records go, each to all of them that its filter lets through. At most 8.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +required
	Collectors []FlowCollector `json:"collectors"`

	// protocols are those whose connections are exported: names of IP protocols in upper or lower case (tcp, SCTP, ipv6-icmp), their
	// numbers (17, or "17"), and names of groups. Left out or empty, all. What is written twice counts once. A name that is not known
	// is told in the condition ResolvedProtocols, and the others are exported; where none is known, nothing is. At most 64.
	// Example: [tcp, 17, tunnels].
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:XIntOrString
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:XValidation:rule="type(self) != int || (self >= 0 && self <= 255)",message="a protocol's number is from 0 to 255: correct it, or write the protocol's name"
	// +listType=atomic
	// +optional
	Protocols []FlowProtocol `json:"protocols,omitempty"`

	// groups are names for several protocols at once, for protocols to use, here and in collectors. At most 16.
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	// +optional
	Groups []FlowProtocolGroup `json:"groups,omitempty"`

	// direction says which connections are meant, by who opens them: Ingress those to selected Pods, Egress those from them, Both (the
	// default). Each record tells of both ways of a connection.
	// +kubebuilder:default=Both
	// +optional
	Direction FlowDirection `json:"direction,omitempty"`

	// podSelector selects Pods by their labels, in all namespaces: the connections that they open or take are exported. Left out or
	// empty, those of all Pods behind the bridge. Example: {matchLabels: {app: web}}.
	// +optional
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`

	// includeDenied tells of connections and requests that were denied, too, with the policy and the reason. True by default.
	// +kubebuilder:default=true
	// +optional
	IncludeDenied *bool `json:"includeDenied,omitempty"`

	// activeTimeout is how often a connection is told of while it lasts and carries packets. 1m by default.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="activeTimeout is from 1s to 24h: write 1m, for example"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:default="1m"
	// +optional
	ActiveTimeout *metav1.Duration `json:"activeTimeout,omitempty"`

	// idleTimeout is after how long without packets a connection is told of as idle. 15s by default. Not above activeTimeout.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="idleTimeout is from 1s to 24h: write 15s, for example"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:default="15s"
	// +optional
	IdleTimeout *metav1.Duration `json:"idleTimeout,omitempty"`

	// pollInterval is how often connections are read from the switch. Those that come and go in between are seen as long as the switch
	// remembers them. 5s by default.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="pollInterval is from 1s to 1h: write 5s, for example"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:default="5s"
	// +optional
	PollInterval *metav1.Duration `json:"pollInterval,omitempty"`

	// labelKeys are the keys of labels that records carry of the Pods of the node, as key=value. At most 16. Example: [app, team].
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=317
	// +listType=set
	// +optional
	LabelKeys []string `json:"labelKeys,omitempty"`

	// enterpriseNumber is the private enterprise number (IANA) of the elements that no standard has, such as the names of Pods. Left out
	// or 0, they are left out, and records have standard elements alone. Write your organisation's own. Example: 32473, which is for
	// documentation.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +optional
	EnterpriseNumber int64 `json:"enterpriseNumber,omitempty"`
}

// FlowProtocol is an IP protocol's name or number, or the name of a group.
type FlowProtocol = PortRef

// FlowProtocolGroup is a name for several protocols.
type FlowProtocolGroup struct {
	// name is the group's, in lower case. It must not be the name of a protocol. Example: tunnels.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z]([a-z0-9-]*[a-z0-9])?$`
	// +required
	Name string `json:"name"`

	// protocols are the group's: names and numbers of IP protocols, and no groups. At most 64. Example: [gre, ipip, 41].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:XIntOrString
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:XValidation:rule="type(self) != int || (self >= 0 && self <= 255)",message="a protocol's number is from 0 to 255: correct it, or write the protocol's name"
	// +listType=atomic
	// +required
	Protocols []FlowProtocol `json:"protocols"`
}

// FlowDirection says which connections are exported, by who opens them.
// +kubebuilder:validation:Enum=Both;Ingress;Egress
type FlowDirection string

// Directions of exports.
const (
	// FlowsBoth is all connections.
	FlowsBoth FlowDirection = "Both"
	// FlowsIngress is those to selected Pods.
	FlowsIngress FlowDirection = "Ingress"
	// FlowsEgress is those from selected Pods.
	FlowsEgress FlowDirection = "Egress"
)

// FlowTransport is how records travel.
// +kubebuilder:validation:Enum=UDP;TCP;TLS
type FlowTransport string

// Transports of IPFIX.
const (
	// FlowUDP sends datagrams, of which nobody knows whether they arrive.
	FlowUDP FlowTransport = "UDP"
	// FlowTCP sends a stream of messages.
	FlowTCP FlowTransport = "TCP"
	// FlowTLS is FlowTCP over TLS.
	FlowTLS FlowTransport = "TLS"
)

// FlowCollector is one place that records go to. One that is slow or away never holds up traffic, nor the other collectors: its records
// wait, up to a bound, and are lost after that, counted by the metric meerkat_flowexport_lost_total.
//
// +kubebuilder:validation:XValidation:rule="!has(self.caBundle) || !has(self.transport) || self.transport == 'TLS'",message="caBundle is for transport TLS: set transport: TLS, or leave caBundle out"
// +kubebuilder:validation:XValidation:rule="!has(self.serverName) || !has(self.transport) || self.transport == 'TLS'",message="serverName is for transport TLS: set transport: TLS, or leave serverName out"
type FlowCollector struct {
	// name is how metrics and conditions speak of the collector. Unique among the collectors. Example: siem.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`
	// +required
	Name string `json:"name"`

	// address is the collector's host and port; an IPv6 address stands in brackets. The host is looked up as the node does, which knows
	// no Services: write a Service's cluster IP. IPFIX has the ports 4739 and, over TLS, 4740. Example: flows.example:4739.
	// +kubebuilder:validation:MaxLength=270
	// +kubebuilder:validation:Pattern=`^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$`
	// +required
	Address string `json:"address"`

	// transport is TLS, which is meant when it is left out, TCP or UDP. Records tell who speaks to whom: over TCP and UDP, whoever is on
	// the way reads them. (It has no default: one within a list would make every client-side apply a change.)
	// +optional
	Transport FlowTransport `json:"transport,omitempty"`

	// caBundle are certificates, in PEM, to know the collector by. Left out, those of the agent's image.
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	CABundle string `json:"caBundle,omitempty"`

	// serverName is the name that the collector's certificate must have. Left out, the host of address.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	ServerName string `json:"serverName,omitempty"`

	// protocols narrow what this collector gets: of the connections that the export is about, those of these protocols. They are written
	// as in spec.protocols. Left out or empty, all that the export is about. At most 64.
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:XIntOrString
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:XValidation:rule="type(self) != int || (self >= 0 && self <= 255)",message="a protocol's number is from 0 to 255: correct it, or write the protocol's name"
	// +listType=atomic
	// +optional
	Protocols []FlowProtocol `json:"protocols,omitempty"`

	// direction narrows what this collector gets to connections to selected Pods (Ingress) or from them (Egress). Left out, or Both, it
	// does not.
	// +optional
	Direction FlowDirection `json:"direction,omitempty"`

	// podSelector narrows what this collector gets to connections of Pods with these labels, of those that the export selects.
	// +optional
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`
}

// FlowExportStatus is what the nodes report.
type FlowExportStatus struct {
	// observedGeneration is the metadata.generation that this status is about; -1 until the manager has looked for the first time.
	// +kubebuilder:validation:Minimum=-1
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Accepted (the export can be done as it is written), ResolvedProtocols (all names of protocols are known),
	// ProtocolNotTracked (a protocol is asked for whose connections the switch does not track, so that none are exported), Programmed
	// (every node does it), Degraded (it is done, but collectors do not take records, or they are lost), Ready (the summary) and Stalled
	// (only a change by a person can help).
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// protocols are what spec.protocols stands for, by name where they have one; empty for all.
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=atomic
	// +optional
	Protocols []string `json:"protocols,omitempty"`

	// nodes counts the nodes that are to export: those of the Engine.
	// +optional
	Nodes *NodeCounts `json:"nodes,omitempty"`
}

// NodeFlowExport is what a node has made of a FlowExport.
type NodeFlowExport struct {
	// name is the export's.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`

	// observedGeneration is the export's metadata.generation that this is about.
	// +kubebuilder:validation:Minimum=0
	// +required
	ObservedGeneration int64 `json:"observedGeneration"`

	// programmed tells whether the node reads connections and sends records as the export says.
	// +required
	Programmed bool `json:"programmed"`

	// reason says in one word why programmed is false. Example: ConfigurationRefused.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`

	// message says in sentences why programmed is false, and what to do.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	Message string `json:"message,omitempty"`

	// degraded says in one word what needs a look although the export is programmed; empty when nothing does.
	// Example: CollectorUnreachable.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Degraded string `json:"degraded,omitempty"`

	// degradedMessage says it in sentences.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	DegradedMessage string `json:"degradedMessage,omitempty"`
}

// Condition types of a FlowExport, beside those of other kinds.
const (
	// ConditionResolvedProtocols says whether all names of protocols are known.
	ConditionResolvedProtocols = "ResolvedProtocols"
	// ConditionProtocolNotTracked says whether a protocol is asked for whose connections the switch does not track.
	ConditionProtocolNotTracked = "ProtocolNotTracked"
)
