package plan

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hiddenClients tells of ipBlock peers that some clients can evade, or not be meant by: kube-proxy gives a connection from outside that
// comes in by another node than the Pod's that node's address, and the Pod's node cannot know who it was. (Behind its own addresses it
// can: see dataplane/clientip.) It returns false when there is nothing to tell.
func hiddenClients(x *index, p *policy) (metav1.Condition, bool) {
	rule := blockRule(p)
	if rule == nil || x.nodes == 1 {
		return metav1.Condition{}, false
	}
	own := map[int32]bool{}
	for _, id := range p.selected.pods {
		for _, a := range x.pods[id].addresses {
			own[a] = true
		}
	}
	var through []string
	for _, name := range x.serviceNames {
		s := x.services[name]
		if hidesClients(s.object) && slices.ContainsFunc(s.endpoints, func(e endpoint) bool { return own[e.address] }) {
			through = append(through, fmt.Sprintf("%s (%s)", name, s.object.Spec.Type))
		}
	}
	if len(through) == 0 {
		return metav1.Condition{}, false
	}
	named := through[:min(len(through), maxSentences)]
	if more := len(through) - len(named); more > 0 {
		named = append(slices.Clone(named), fmt.Sprintf("%d more", more))
	}
	return newCondition(p, ConditionClientsHidden, metav1.ConditionTrue, ReasonExternalTrafficPolicyCluster, fmt.Sprintf(
		"%s has an ipBlock peer, and clients outside of the cluster reach its Pods through %s with externalTrafficPolicy: Cluster. "+
			"One that comes in by the Pod's own node is judged by its own address. One that comes in by another node has that node's address "+
			"when it reaches the Pod's node, and is judged by that. Set externalTrafficPolicy: Local on the Service, or use a load balancer "+
			"with direct server return (DSR): then every client keeps its address.", rule.describe(p), strings.Join(named, ", "))), true
}

// blockRule is the policy's first rule of ingress with an ipBlock; nil when it has none.
func blockRule(p *policy) *rule {
	for _, r := range p.ingress {
		if r.peers.named {
			return r
		}
	}
	return nil
}

// hidesClients tells whether kube-proxy may translate the source of connections to the Service from outside of the cluster.
func hidesClients(s *corev1.Service) bool {
	outside := s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer || len(s.Spec.ExternalIPs) > 0
	return outside && s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal
}
