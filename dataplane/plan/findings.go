package plan

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Findings is what Compile has to say to the writers of policies.
type Findings struct {
	// Policies are sorted by namespace and name.
	Policies []PolicyFindings `json:"policies"`
	// Inspections are sorted by namespace and name.
	Inspections []InspectionFindings `json:"inspections,omitempty"`
}

// PolicyFindings is what Compile has to say about one policy.
type PolicyFindings struct {
	Policy types.NamespacedName `json:"policy"`
	// Conditions are Accepted and ResolvedRefs, and Shadowed and ClientsHidden when they are true; with the policy's generation and without times.
	// They do not depend on the order of the snapshot's lists. Accepted and ResolvedRefs are judged over all Pods of the snapshot,
	// Shadowed over those of the node.
	Conditions []metav1.Condition `json:"conditions"`
	// Pods counts the Pods that the policy selects, on all nodes. Pods that use their node's network are not counted.
	Pods int `json:"pods"`
	// LocalPods counts those of them that are on the snapshot's node.
	LocalPods int `json:"localPods"`
	// Nodes names the nodes, sorted, that have Pods which the policy selects. Only Check fills it.
	Nodes []string `json:"nodes,omitempty"`
}

// ConditionShadowed is the type of the condition that says that a rule with l7 has no effect, since another rule allows the
// same at L4. It has negative polarity, as Gateway API's PartiallyInvalid has, and is absent when it is not true.
const ConditionShadowed = "Shadowed"

// ConditionClientsHidden is the type of the condition that says that some clients of the policy's Pods cannot be judged by their own
// addresses. Like ConditionShadowed it is absent when it is not true.
const ConditionClientsHidden = "ClientsHidden"

// Reasons of the conditions that Compile writes.
const (
	// ReasonAccepted goes with Accepted=True.
	ReasonAccepted = "Accepted"
	// ReasonInvalid goes with Accepted=False: the message names every field that cannot be used. What is invalid allows nothing,
	// while the rest of the policy is enforced.
	ReasonInvalid = "Invalid"
	// ReasonResolvedRefs goes with ResolvedRefs=True.
	ReasonResolvedRefs = "ResolvedRefs"
	// ReasonServicePortForPodPort: a rule names a Service's port where the Pod's own is wanted.
	ReasonServicePortForPodPort = "ServicePortForPodPort"
	// ReasonNamedPortNotFound: no Pod that is meant has a container port of that name and protocol.
	ReasonNamedPortNotFound = "NamedPortNotFound"
	// ReasonServiceNotFound: the Service of a peer does not exist.
	ReasonServiceNotFound = "ServiceNotFound"
	// ReasonServicePortNotFound: the Service of a peer has no such port.
	ReasonServicePortNotFound = "ServicePortNotFound"
	// ReasonServiceUnresolvable: the Service of a peer has no endpoints by its nature (ExternalName).
	ReasonServiceUnresolvable = "ServiceUnresolvable"
	// ReasonShadowedRule goes with Shadowed=True: for some Pod the rule has no effect at all.
	ReasonShadowedRule = "ShadowedRule"
	// ReasonPartlyShadowedRule goes with Shadowed=True: the rule has no effect for some of its peers or ports.
	ReasonPartlyShadowedRule = "PartlyShadowedRule"
	// ReasonExternalTrafficPolicyCluster goes with ClientsHidden=True: a Service's externalTrafficPolicy hides them behind nodes.
	ReasonExternalTrafficPolicyCluster = "ExternalTrafficPolicyCluster"
)

// For returns the findings of one policy, or nil when the snapshot did not hold it.
func (f Findings) For(policy types.NamespacedName) *PolicyFindings {
	for i := range f.Policies {
		if f.Policies[i].Policy == policy {
			return &f.Policies[i]
		}
	}
	return nil
}
