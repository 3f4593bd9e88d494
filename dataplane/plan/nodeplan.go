package plan

import (
	"net/netip"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// NodePlan is what one node must enforce: plain data without clock, numbers or ports. Equal snapshots give equal plans, byte
// for byte. Numbers (InspectionID, sid, edge) are handed out later, by dataplane/ledger, for the keys that stand here.
type NodePlan struct {
	// Edges are the governed Pods of this node, sorted by Pod. A Pod that no policy and no inspection selects is not here.
	Edges []Edge `json:"edges"`
	// Groups are the distinct ways in which Pods are governed in one direction, sorted by Key.
	Groups []Group `json:"groups"`
	// RuleSets are the distinct allow-lists that the engine applies, sorted by Key.
	RuleSets []RuleSet `json:"ruleSets"`
	// Profiles are the signature engines that the node runs, sorted by Key; Taps what connections are given to them, sorted by Key.
	Profiles []Profile `json:"profiles,omitempty"`
	Taps     []Tap     `json:"taps,omitempty"`
	// Services are the Service ports that governed Pods of this node resolve at their own edge, sorted: all of them when any of
	// these Pods is governed at egress, else those with one of these Pods among their endpoints.
	Services []ServicePort `json:"services"`
	// NodeAddresses are this node's own addresses, sorted: traffic from them to a Pod is never governed.
	NodeAddresses []netip.Addr `json:"nodeAddresses"`
	// NodePortAddresses are where the Services among Services that are reached ByNodePort are: all nodes' addresses, and all that this
	// node has, sorted; empty when there is no such Service.
	NodePortAddresses []netip.Addr `json:"nodePortAddresses,omitempty"`
}

// Direction is a policy's direction, seen from the governed Pod.
type Direction string

// Directions.
const (
	Ingress Direction = "Ingress"
	Egress  Direction = "Egress"
)

// Edge is one governed Pod.
type Edge struct {
	Pod types.NamespacedName `json:"pod"`
	UID string               `json:"uid"`
	// Addresses are the Pod's own, sorted.
	Addresses []netip.Addr `json:"addresses"`
	// Ingress and Egress are keys of Groups; empty when that direction is not governed.
	Ingress string `json:"ingress,omitempty"`
	Egress  string `json:"egress,omitempty"`
	// Hairpin says that the Pod is an endpoint, ready or not, of a Service with a cluster address, through which it may reach itself.
	Hairpin bool `json:"hairpin,omitempty"`
}

// Group is one way in which Pods are governed in one direction. A packet that opens a connection is judged in two steps:
// its peer address gives a class (the longest prefix of Peers wins), and the class's PortVerdicts give the verdict for
// protocol and port. A port that no PortVerdict covers is not governed and passes.
type Group struct {
	// Key identifies the group over time: a hash of direction, policies and what named ports resolve to on the Pod itself. It
	// stays when peers come and go or a rule's text changes.
	Key       string    `json:"key"`
	Direction Direction `json:"direction"`
	// Epoch is a hash of everything below. It is written into each connection; a connection that carries another epoch than
	// its group's present one is judged anew at its next packet in the original direction.
	Epoch uint32 `json:"epoch"`
	// Policies are the "namespace/name"s that made this group, sorted.
	Policies []string `json:"policies"`
	// Peers has no two entries with one prefix, is sorted by prefix, and always holds 0.0.0.0/0 and ::/0.
	// An entry whose class equals that of the next shorter prefix that contains it is left out.
	Peers []Peer `json:"peers"`
	// Classes[i] is what holds for peers of class i: disjoint port ranges, sorted by protocol and port.
	Classes [][]PortVerdict `json:"classes"`
	// Taps are disjoint port ranges, sorted by protocol and port: which connections signature engines get.
	Taps []PortTaps `json:"taps,omitempty"`
}

// Peer says which class the addresses of a prefix belong to, unless a longer prefix says otherwise.
type Peer struct {
	Prefix netip.Prefix `json:"prefix"`
	Class  int          `json:"class"`
}

// Protocol is an L4 protocol as Kubernetes writes it.
type Protocol string

// Protocols.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// PortVerdict is the verdict for the ports Port..EndPort (both included; 0..65535 is every port).
type PortVerdict struct {
	Protocol Protocol `json:"protocol"`
	Port     uint16   `json:"port"`
	EndPort  uint16   `json:"endPort"`
	Verdict  Verdict  `json:"verdict"`
	// RuleSet is the key of the RuleSet that an inspected connection is judged by.
	RuleSet string `json:"ruleSet,omitempty"`
	// FailOpen lets an inspected connection pass while the engine does not inspect. It is true only when every policy that
	// governs these ports says Open.
	FailOpen bool `json:"failOpen,omitempty"`
	// Reset asks for TCP resets to both ends of a TCP connection that is denied here, at L4 (RuleSet.Reset is for the others).
	Reset bool `json:"reset,omitempty"`
	// Policies are the policies that govern these ports: what a denial is attributed to. Sorted.
	Policies []string `json:"policies"`
}

// Verdict is what happens to a new connection.
type Verdict string

// Verdicts. In Audit mode nothing is denied at L4: such a connection is inspected by an empty RuleSet that reports it.
const (
	Allow   Verdict = "Allow"   // at L4, not inspected
	Inspect Verdict = "Inspect" // through the engine
	Deny    Verdict = "Deny"    // at L4
)

// RuleSet is one allow-list that the engine applies.
type RuleSet struct {
	// Key identifies the rule set over time: a hash of the direction and of the (policy, rule) pairs that contribute to it. It
	// stays when a rule's allow-list changes, so that the change takes hold on connections that are already open.
	Key       string    `json:"key"`
	Direction Direction `json:"direction"`
	// Audit reports what is not allowed and drops nothing.
	Audit bool `json:"audit,omitempty"`
	// Reset asks for TCP resets to both ends of a denied connection.
	Reset bool `json:"reset,omitempty"`
	// Policies are what a denial is attributed to. Sorted.
	Policies []string `json:"policies"`
	// Entries are the alternatives, in a canonical order, without duplicates. Empty allows nothing.
	Entries []l7.Entry `json:"entries"`
}

// Reached tells by which of its addresses a Service is reached.
type Reached string

// Ways to reach a Service.
const (
	ByClusterIP  Reached = ""
	ByExternalIP Reached = "external IP" // also a load balancer's
	ByNodePort   Reached = "NodePort"
)

// ServicePort is one port of a Service that is resolved at the client's edge.
type ServicePort struct {
	Service types.NamespacedName `json:"service"`
	Name    string               `json:"name,omitempty"` // the port's name
	Reached Reached              `json:"reached,omitempty"`
	// Addresses are where it is reached, sorted; of one that is reached ByNodePort they stand in NodePlan.NodePortAddresses.
	Addresses []netip.Addr `json:"addresses"`
	Protocol  Protocol     `json:"protocol"`
	Port      uint16       `json:"port"`
	// AffinitySeconds is how long after a client's last connection its next one goes to the same endpoint; 0: any goes anywhere.
	AffinitySeconds int32 `json:"affinitySeconds,omitempty"`
	// Endpoints are the ready ones (or, without any, the serving ones that terminate), sorted; of each address family those of
	// the Service's addresses of that family. Empty: nobody answers, and connections are left to kube-proxy, which refuses them.
	Endpoints []netip.AddrPort `json:"endpoints"`
}
