package plan

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// SignatureRevision is the content of a RuleSet or ClusterRuleSet as nodes are to run it. Compile looks at its name and revision only.
type SignatureRevision struct {
	// Kind is RuleSet or ClusterRuleSet; Namespace is empty for the latter.
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Revision  string `json:"revision"`
	// Variables are the rule set's.
	Variables v1alpha1.RuleVariables `json:"variables,omitzero"`
	// Rules is one file of rules, as the engine loads it.
	Rules []byte `json:"-"`
}

// SignatureRef names a revision of a RuleSet or ClusterRuleSet.
type SignatureRef struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Revision  string `json:"revision,omitempty"`
}

// Label is the name as people write it: "shop/web" for a RuleSet, "cluster/base" for a ClusterRuleSet.
func (r SignatureRef) Label() string {
	if r.Kind == KindClusterRuleSet {
		return "cluster/" + r.Name
	}
	return r.Namespace + "/" + r.Name
}

// Kinds of rule sets.
const (
	KindRuleSet        = "RuleSet"
	KindClusterRuleSet = "ClusterRuleSet"
)

// Profile is what one signature engine of the node runs. Inspections with the same mode, rule sets and variables share it; rules of
// inspections that do not are never in one engine.
type Profile struct {
	// Key identifies the profile over time: a hash of mode, names of rule sets, variables and failure policy. It stays when a rule
	// set gets another revision, so that the change takes hold on connections that are already open.
	Key  string                  `json:"key"`
	Mode v1alpha1.InspectionMode `json:"mode"`
	// FailOpen lets connections pass while the engine does not inspect. Only with mode Prevent.
	FailOpen bool `json:"failOpen,omitempty"`
	// RuleSets are in the order in which the inspections name them.
	RuleSets []SignatureRef `json:"ruleSets"`
	// Variables are the inspections'; those of the rule sets come after them.
	Variables v1alpha1.RuleVariables `json:"variables,omitzero"`
	// Home are the addresses of the node's Pods that its inspections select, sorted: HOME_NET, where nobody sets it.
	Home []string `json:"home"`
	// Inspections are the "namespace/name"s of those that use it, sorted.
	Inspections []string `json:"inspections"`
}

// Tap is what connections have for which the same inspections of one mode hold in one direction. Its number is the VLAN id with which
// their packets, or copies of these, come to the signature engines.
type Tap struct {
	// Key identifies the tap over time: a hash of direction, mode and inspections.
	Key       string                  `json:"key"`
	Direction Direction               `json:"direction"`
	Mode      v1alpha1.InspectionMode `json:"mode"`
	// Inspections are sorted.
	Inspections []string `json:"inspections"`
	// Profiles are the keys of the engines that get the packets, sorted: with mode Prevent, one.
	Profiles []string `json:"profiles"`
	// FailOpen is the profile's. Only with mode Prevent.
	FailOpen bool `json:"failOpen,omitempty"`
}

// PortTaps says which taps the connections to the ports Port..EndPort have (both included; 0..65535 is every port), whoever their
// peer is.
type PortTaps struct {
	Protocol Protocol `json:"protocol"`
	Port     uint16   `json:"port"`
	EndPort  uint16   `json:"endPort"`
	// Detect and Prevent are keys of Taps; empty where there is none.
	Detect  string `json:"detect,omitempty"`
	Prevent string `json:"prevent,omitempty"`
}

// DefaultProfiles is how many signature engines a node runs at most, where nobody says otherwise: each takes some hundred MB of
// memory with a large set of rules.
const DefaultProfiles = 4

// InspectionFindings is what Compile has to say about one TrafficInspection.
type InspectionFindings struct {
	Inspection types.NamespacedName `json:"inspection"`
	// Conditions are Accepted and ResolvedRefs, with the inspection's generation and without times.
	Conditions []metav1.Condition `json:"conditions"`
	// Pods counts the Pods that it selects, on all nodes; LocalPods those of the snapshot's node.
	Pods      int `json:"pods"`
	LocalPods int `json:"localPods"`
	// Nodes names the nodes, sorted, that have selected Pods. Only Check fills it.
	Nodes []string `json:"nodes,omitempty"`
	// Profile is the key of its engine on this node; empty when it has none here.
	Profile string `json:"profile,omitempty"`
	// NotDone says why this node does not do it, or not all of it, and what to do; empty when it does.
	NotDone string `json:"notDone,omitempty"`
}

// Tap returns the tap of that key, or nil.
func (p *NodePlan) Tap(key string) *Tap {
	for i := range p.Taps {
		if p.Taps[i].Key == key {
			return &p.Taps[i]
		}
	}
	return nil
}

// Profile returns the profile of that key, or nil.
func (p *NodePlan) Profile(key string) *Profile {
	for i := range p.Profiles {
		if p.Profiles[i].Key == key {
			return &p.Profiles[i]
		}
	}
	return nil
}

// Tapped tells which taps a new connection has: of a Pod that group governs, to a port (at ingress the Pod's, at egress the peer's,
// with Services resolved to endpoints). It is the reference for what flows do.
func (g *Group) Tapped(protocol Protocol, port uint16) PortTaps {
	for _, t := range g.Taps {
		if t.Protocol == protocol && t.Port <= port && port <= t.EndPort {
			return t
		}
	}
	return PortTaps{}
}

// InspectionFor returns the findings of one inspection, or nil when the snapshot did not hold it.
func (f Findings) InspectionFor(name types.NamespacedName) *InspectionFindings {
	for i := range f.Inspections {
		if f.Inspections[i].Inspection == name {
			return &f.Inspections[i]
		}
	}
	return nil
}
