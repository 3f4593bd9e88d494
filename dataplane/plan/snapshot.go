package plan

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Snapshot is the state of the cluster at one moment, as far as it matters to one node: what Compile judges from. The lists may
// be in any order; as in the API, no two objects of a list have the same namespace and name. Compile only reads it.
type Snapshot struct {
	// Node is the name of the node to plan for. Empty stands for all of them: every Pod is planned for, which is what a check of
	// policies outside any node wants.
	Node string `json:"node,omitempty"`
	// LocalAddresses are the addresses of the node's own interfaces, beyond those that its Node object tells (a CNI's bridge, for
	// one: kubelet's probes come from there). Loopback and multicast addresses are ignored.
	LocalAddresses []netip.Addr `json:"localAddresses,omitempty"`

	// Namespaces need not hold every namespace that objects are in; one that is missing has no labels but
	// kubernetes.io/metadata.name.
	Namespaces     []corev1.Namespace          `json:"namespaces,omitempty"`
	Nodes          []corev1.Node               `json:"nodes,omitempty"`
	Pods           []corev1.Pod                `json:"pods,omitempty"`
	Services       []corev1.Service            `json:"services,omitempty"`
	EndpointSlices []discoveryv1.EndpointSlice `json:"endpointSlices,omitempty"`
	L7Policies     []v1alpha1.L7Policy         `json:"l7Policies,omitempty"`

	TrafficInspections []v1alpha1.TrafficInspection `json:"trafficInspections,omitempty"`
	// RuleSets and ClusterRuleSets matter only to what is said of a rule set without a revision: Revisions are what is run.
	RuleSets        []v1alpha1.RuleSet        `json:"ruleSets,omitempty"`
	ClusterRuleSets []v1alpha1.ClusterRuleSet `json:"clusterRuleSets,omitempty"`
	Revisions       []SignatureRevision       `json:"revisions,omitempty"`
	// MaxProfiles is how many signature engines the node may run; 0 stands for DefaultProfiles.
	MaxProfiles int `json:"maxProfiles,omitempty"`

	// PeersFromSlices says that AddressSlices tell whom the peer selectors of rules select, as for a node that sees its own Pods
	// alone: then Pods need hold no others, and Namespaces nothing. What a policy's podSelector selects is told by Pods in any case.
	// A selector without a slice selects nobody: see MissingSlices.
	PeersFromSlices bool                    `json:"peersFromSlices,omitempty"`
	AddressSlices   []v1alpha1.AddressSlice `json:"addressSlices,omitempty"`
}
