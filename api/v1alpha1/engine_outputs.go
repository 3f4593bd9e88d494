package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EventOutputs are where alerts and verdicts of all nodes go, each to all of them. At most 8. Each node sends its own.
//
// +kubebuilder:validation:MaxItems=8
// +kubebuilder:validation:XValidation:rule="self.all(a, !has(a.file) || self.exists_one(b, has(b.file) && b.file.name == a.file.name))",message="two outputs write the same file: give each a file.name of its own"
// +listType=map
// +listMapKey=name
type EventOutputs []EventOutput

// EventOutput is one place that events go to: exactly one of stdout, file, syslog and http. An output that is slow or away never holds
// up traffic, nor the other outputs: its events wait, at most 8,192 of them and 16 MiB, and are lost after that, counted by the metric
// meerkat_event_output_lost_total.
//
// +kubebuilder:validation:XValidation:rule="[has(self.stdout), has(self.file), has(self.syslog), has(self.http)].filter(x, x).size() == 1",message="an output is exactly one of stdout, file, syslog and http: write an output for each, with a name of its own"
type EventOutput struct {
	// name is how metrics and conditions speak of the output. Unique among the outputs. Example: siem.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`
	// +required
	Name string `json:"name"`

	// stdout writes a line of JSON for each event to the agent's standard output, where the node's log collector finds it.
	// +optional
	Stdout *StdoutOutput `json:"stdout,omitempty"`

	// file writes a line of JSON for each event to a file of the node.
	// +optional
	File *FileOutput `json:"file,omitempty"`

	// syslog sends a message (RFC 5424) for each event, whose text is the event as JSON.
	// +optional
	Syslog *SyslogOutput `json:"syslog,omitempty"`

	// http posts events to a web server, a line of JSON each, many at a time.
	// +optional
	HTTP *HTTPOutput `json:"http,omitempty"`
}

// StdoutOutput writes to the standard output. It has no settings: write {}.
type StdoutOutput struct{}

// FileOutput writes to a file of the node, which is rotated.
type FileOutput struct {
	// name is the file's, in the directory /var/log/meerkat of the node. Example: events.jsonl.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9][A-Za-z0-9._-]*$`
	// +required
	Name string `json:"name"`

	// maxSizeMiB is the size at which the file is rotated, in MiB. 64 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4096
	// +kubebuilder:default=64
	// +optional
	MaxSizeMiB int32 `json:"maxSizeMiB,omitempty"`

	// maxFiles is how many rotated files are kept. 4 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:default=4
	// +optional
	MaxFiles int32 `json:"maxFiles,omitempty"`

	// compress packs rotated files (gzip).
	// +optional
	Compress bool `json:"compress,omitempty"`
}

// SyslogTransport is how messages travel.
// +kubebuilder:validation:Enum=UDP;TCP;TLS
type SyslogTransport string

// Transports of syslog.
const (
	// SyslogUDP sends datagrams, of which nobody knows whether they arrive.
	SyslogUDP SyslogTransport = "UDP"
	// SyslogTCP sends messages with counted octets (RFC 6587).
	SyslogTCP SyslogTransport = "TCP"
	// SyslogTLS is SyslogTCP over TLS (RFC 5425).
	SyslogTLS SyslogTransport = "TLS"
)

// SyslogOutput sends to a syslog server.
//
// +kubebuilder:validation:XValidation:rule="!has(self.caBundle) || self.transport == 'TLS'",message="caBundle is for transport TLS: set transport: TLS, or leave caBundle out"
type SyslogOutput struct {
	// address is the server's host and port; an IPv6 address stands in brackets. The host is looked up as the node does, which knows no
	// Services: write a Service's cluster IP. Example: logs.example:6514.
	// +kubebuilder:validation:MaxLength=270
	// +kubebuilder:validation:Pattern=`^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$`
	// +required
	Address string `json:"address"`

	// transport is TLS (the default), TCP or UDP. Over TCP and TLS, what the server has not acknowledged when a connection breaks is sent
	// again, so that an event may come twice.
	// +kubebuilder:default=TLS
	// +optional
	Transport SyslogTransport `json:"transport,omitempty"`

	// facility is the messages', as a number: 16 (local0) by default. Their severity is 5 (notice).
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=23
	// +kubebuilder:default=16
	// +optional
	Facility *int32 `json:"facility,omitempty"`

	// caBundle are certificates, in PEM, to know the server by. Left out, those of the agent's image.
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	CABundle string `json:"caBundle,omitempty"`
}

// HTTPOutput posts to a web server. An answer of 2xx takes the events; 401, 403, 408, 425, 429 and 5xx have them sent again, later and
// later, for five minutes; any other refuses them.
//
// +kubebuilder:validation:XValidation:rule="!has(self.authorizationKey) || self.url.startsWith('https://')",message="authorizationKey is for https alone, since whoever is on the way could read it: let url begin with https://, or leave authorizationKey out"
// +kubebuilder:validation:XValidation:rule="!has(self.caBundle) || self.url.startsWith('https://')",message="caBundle is for https: let url begin with https://, or leave caBundle out"
type HTTPOutput struct {
	// url is where events are posted. Its host is looked up as the node does, which knows no Services: write a Service's cluster IP.
	// Example: https://collector.example/meerkat.
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https?://[^\s/@]+(/[^\s]*)?$`
	// +required
	URL string `json:"url"`

	// authorizationKey is the key of the Secret meerkat-event-outputs, in Meerkat's own namespace, whose value is sent as the field
	// Authorization. Agents get no other Secret. A change of the value is followed within two minutes. Example: siem, whose value is
	// "Bearer 8h2…".
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	// +optional
	AuthorizationKey string `json:"authorizationKey,omitempty"`

	// batchEvents is how many events go into a request at most. 500 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=8192
	// +kubebuilder:default=500
	// +optional
	BatchEvents int32 `json:"batchEvents,omitempty"`

	// batchDelay is how long the first event of a request waits for others. 1s by default.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('1m')",message="batchDelay is from 0s to 1m: write 1s, for example"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:default="1s"
	// +optional
	BatchDelay *metav1.Duration `json:"batchDelay,omitempty"`

	// gzip packs what is posted.
	// +optional
	Gzip bool `json:"gzip,omitempty"`

	// caBundle are certificates, in PEM, to know the server by. Left out, those of the agent's image.
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	CABundle string `json:"caBundle,omitempty"`
}

// EventOutputsSecret is the Secret, of Meerkat's namespace, that outputs' authorization is read from.
const EventOutputsSecret = "meerkat-event-outputs" //nolint:gosec // A name.

// EventOutputsSecretDir is where agents find its keys, as files.
const EventOutputsSecretDir = "/etc/meerkat/event-outputs" //nolint:gosec // A name.

// EventLogDir is the nodes' directory of outputs' files.
const EventLogDir = "/var/log/meerkat"

// ConditionEventsDelivered says whether the outputs of Engine.spec.outputs take the events. It is there while there are outputs.
const ConditionEventsDelivered = "EventsDelivered"
