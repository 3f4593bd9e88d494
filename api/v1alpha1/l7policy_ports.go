package v1alpha1

import "k8s.io/apimachinery/pkg/util/intstr"

// PortRef is a port's number or its name.
type PortRef = intstr.IntOrString

// PolicyPort is a port, a range of ports, or every port of a protocol.
//
// +kubebuilder:validation:XValidation:rule="!has(self.endPort) || (has(self.port) && type(self.port) == int)",message="endPort needs a port that is a number, the first of the range: set port to it, or leave endPort out"
// +kubebuilder:validation:XValidation:rule="!has(self.endPort) || !has(self.port) || type(self.port) != int || self.endPort >= self.port",message="endPort is below port: swap them, or leave endPort out for a single port"
type PolicyPort struct {
	// protocol is TCP, which is meant when it is left out, UDP or SCTP.
	// +optional
	Protocol Protocol `json:"protocol,omitempty"`

	// port is a number (1 to 65535), or the name that a container of the Pod gives to its port; left out, every port of the
	// protocol. Examples: 8080, http.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^([a-z0-9]+-)*[a-z0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*$`
	// +kubebuilder:validation:XValidation:rule="type(self) != int || (self >= 1 && self <= 65535)",message="a port's number is from 1 to 65535; leave port out for every port"
	// +optional
	Port *PortRef `json:"port,omitempty"`

	// endPort makes a range of ports, port to endPort, both included. It needs a port that is a number and not above it.
	// Example: {port: 8000, endPort: 8099}.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	EndPort *int32 `json:"endPort,omitempty"`
}

// Protocol is a transport protocol.
// +kubebuilder:validation:Enum=TCP;UDP;SCTP
type Protocol string

// Protocols.
const (
	// ProtocolTCP is what is meant where no protocol is written.
	ProtocolTCP Protocol = "TCP"
	// ProtocolUDP is UDP, and QUIC with it.
	ProtocolUDP Protocol = "UDP"
	// ProtocolSCTP is SCTP, which the engine does not look into.
	ProtocolSCTP Protocol = "SCTP"
)
