package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EngineName is the name of the one Engine that the manager acts on.
const EngineName = "default"

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=eng,categories=meerkat
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="True when every node that is meant inspects."
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="Why the Engine is ready or not."
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.nodes.desired`,description="Nodes that are meant."
// +kubebuilder:printcolumn:name="Ready-Nodes",type=integer,JSONPath=`.status.nodes.ready`,description="How many of them report that they inspect."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="a cluster has one Engine, and its name is default: rename this one, or put its settings into default"

// Engine says how Meerkat runs on the cluster's nodes: on which of them, and with what. Creating it starts the node agents, the
// inspection engines and, on nodes that have none, Open vSwitch. Deleting it first puts every Pod's network back as it was found.
type Engine struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says how Meerkat runs on nodes.
	// +optional
	Spec EngineSpec `json:"spec,omitempty"`

	// status is what the manager found. It is written by Meerkat; leave it out.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status EngineStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// EngineList contains a list of Engine.
type EngineList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Engine `json:"items"`
}

// EngineSpec says how Meerkat runs on nodes. Everything has a default.
type EngineSpec struct {
	// images overrides the images that came with the manager, for a private registry.
	// +optional
	Images EngineImages `json:"images,omitempty"`

	// imagePullSecrets are the names of Secrets, in the manager's namespace, to pull the images with. At most 8.
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	// +optional
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`

	// nodeSelector limits Meerkat to nodes with these labels. Policies are not enforced on other nodes, and say so. Left out, all
	// Linux nodes are meant. Example: {node-role.kubernetes.io/worker: ""}.
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// tolerations are those of Meerkat's Pods on nodes. Left out, every taint is tolerated, since a Pod that a taint keeps out may be governed too.
	// At most 32.
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// agent has the settings of the node agent, which programs the node's switch and engine.
	// +optional
	Agent ContainerSettings `json:"agent,omitempty"`

	// suricata has the settings of the inspection engine.
	// +optional
	Suricata SuricataSettings `json:"suricata,omitempty"`

	// signatures has the settings of the engines that run the signatures of TrafficInspections: all of a node's are in one container,
	// beside that of the engine of policies.
	// +optional
	Signatures SignaturesSettings `json:"signatures,omitempty"`

	// switch has the settings of Open vSwitch, through which governed Pods' packets go.
	// +optional
	Switch SwitchSettings `json:"switch,omitempty"`

	// cni has the settings of the chained CNI plugin, by which a Pod is governed from its first packet on.
	// +optional
	CNI CNISettings `json:"cni,omitempty"`

	// mtu is the largest MTU of the Pods' interfaces, in bytes: 1500 by default. Packets to and from the engine may be that large.
	// +kubebuilder:validation:Minimum=1280
	// +kubebuilder:validation:Maximum=9500
	// +kubebuilder:default=1500
	// +optional
	MTU int32 `json:"mtu,omitempty"`

	// outputs are where alerts and verdicts go. Left out or empty, they are lines of JSON in the agents' standard output, at most 100 a
	// second in the long run. A change takes hold within seconds, and restarts nothing.
	// +optional
	Outputs EventOutputs `json:"outputs,omitempty"`

	// detachTimeout is how long a deletion of the Engine waits for nodes to put their Pods' networks back, before it goes on
	// without those that do not. 5m by default. Example: 30s.
	// +kubebuilder:default="5m"
	// +optional
	DetachTimeout *metav1.Duration `json:"detachTimeout,omitempty"`
}

// EngineImages are images, each with tag or digest. Those left out are the manager's own release.
type EngineImages struct {
	// agent is the node agent's image.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Agent string `json:"agent,omitempty"`

	// engine is Suricata's image.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Engine string `json:"engine,omitempty"`

	// switch is Open vSwitch's image.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Switch string `json:"switch,omitempty"`
}

// ContainerSettings are settings of one container.
type ContainerSettings struct {
	// resources are the container's requests and limits.
	// +optional
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
}

// SuricataSettings are settings of the inspection engine.
type SuricataSettings struct {
	// resources are the container's requests and limits. A memory limit below 256Mi does not hold the default memory caps.
	// +optional
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`

	// threads is how many workers inspect packets. Each takes a processor under load. Left out, 1.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	// +kubebuilder:default=1
	// +optional
	Threads int32 `json:"threads,omitempty"`

	// reportRequests has the engine tell of each HTTP request, TLS handshake and DNS query that passes it, so that what FlowExports send of
	// connections has its method, path or name. It costs engine and agent work with each request, and a change starts both anew.
	// False by default. Example: true.
	// +optional
	ReportRequests bool `json:"reportRequests,omitempty"`
}

// SignaturesSettings are settings of the signature engines of a node.
type SignaturesSettings struct {
	// resources are the requests and limits of the container of all signature engines of a node. Each engine may take half of the memory
	// limit, which is 2Gi where resources are left out: 40,000 rules take 350 MiB, and 560 MiB while they are reloaded.
	// +optional
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
}

// Datapath says which of Open vSwitch's datapaths is used.
// +kubebuilder:validation:Enum=Auto;Kernel;Userspace
type Datapath string

// Datapaths.
const (
	// DatapathAuto is the kernel's where its module can be loaded, else userspace.
	DatapathAuto Datapath = "Auto"
	// DatapathKernel is the kernel's module.
	DatapathKernel Datapath = "Kernel"
	// DatapathUserspace needs no module, and is slower.
	DatapathUserspace Datapath = "Userspace"
)

// SwitchSettings are settings of Open vSwitch.
type SwitchSettings struct {
	// resources are the container's requests and limits.
	// +optional
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`

	// datapath is Auto (the default: the kernel's where its module can be loaded, else userspace), Kernel or Userspace. On a node
	// that runs an Open vSwitch of its own, that one is used.
	// +kubebuilder:default=Auto
	// +optional
	Datapath Datapath `json:"datapath,omitempty"`
}

// CNISettings are settings of the chained CNI plugin.
type CNISettings struct {
	// confDir is the node's directory with the CNI configuration.
	// +kubebuilder:default="/etc/cni/net.d"
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^/[A-Za-z0-9._/-]+$`
	// +optional
	ConfDir string `json:"confDir,omitempty"`

	// binDir is the node's directory with CNI plugins.
	// +kubebuilder:default="/opt/cni/bin"
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^/[A-Za-z0-9._/-]+$`
	// +optional
	BinDir string `json:"binDir,omitempty"`

	// disabled leaves the node's CNI configuration alone. Then Pods are governed a moment after they start, and not from their
	// first packet on.
	// +optional
	Disabled bool `json:"disabled,omitempty"`
}

// EngineStatus is what the manager found.
type EngineStatus struct {
	// observedGeneration is the metadata.generation that this status is about; -1 until the manager has looked for the first time.
	// +kubebuilder:validation:Minimum=-1
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Ready (every node that is meant runs and reports), Progressing (nodes are being updated or put back),
	// Stalled (only a change by a person can help) and, with spec.outputs, EventsDelivered (all outputs take the events of all nodes).
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// nodes counts the nodes that are meant.
	// +optional
	Nodes *EngineNodes `json:"nodes,omitempty"`
}

// EngineNodes counts nodes.
type EngineNodes struct {
	// desired is how many nodes are meant.
	// +kubebuilder:validation:Minimum=0
	// +required
	Desired int32 `json:"desired"`

	// ready is how many of them report that their engine inspects and their flows are intact.
	// +kubebuilder:validation:Minimum=0
	// +required
	Ready int32 `json:"ready"`

	// failing names nodes that do not, at most ten of them.
	// +kubebuilder:validation:MaxItems=10
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=atomic
	// +optional
	Failing []string `json:"failing,omitempty"`
}

// ConditionProgressing says that an Engine's nodes are being updated or put back.
const ConditionProgressing = "Progressing"
