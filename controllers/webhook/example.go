package webhook

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// exampleSnapshot is a snapshot with one Pod, such as the policy selects, and the namespace's policies: it shows what the policy
// comes to before Pods exist. It returns false when no such Pod could be made.
func exampleSnapshot(s *plan.Snapshot, policy *v1alpha1.L7Policy) (plan.Snapshot, bool) {
	pod := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: policy.Namespace, Name: "example", UID: "example", Labels: exampleLabels(&policy.Spec.PodSelector),
		},
		Spec:   corev1.PodSpec{NodeName: "example", Containers: []corev1.Container{{Name: "example", Ports: examplePorts(policy)}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "192.0.2.1", PodIPs: []corev1.PodIP{{IP: "192.0.2.1"}}},
	}
	selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
	if err != nil || !selector.Matches(labels.Set(pod.Labels)) {
		return plan.Snapshot{}, false
	}
	return plan.Snapshot{Namespaces: s.Namespaces, Pods: []corev1.Pod{pod}, L7Policies: s.L7Policies}, true
}

// exampleLabels are labels that the selector matches, as a rule.
func exampleLabels(selector *metav1.LabelSelector) map[string]string {
	example := map[string]string{}
	maps.Copy(example, selector.MatchLabels)
	for _, e := range selector.MatchExpressions {
		if _, ok := example[e.Key]; ok {
			continue
		}
		switch e.Operator {
		case metav1.LabelSelectorOpIn:
			if len(e.Values) > 0 {
				example[e.Key] = e.Values[0]
			}
		case metav1.LabelSelectorOpExists:
			example[e.Key] = ""
		case metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpDoesNotExist:
		}
	}
	return example
}

// examplePorts are the named ports that the policy's rules of ingress speak of, each with a number of its own.
func examplePorts(policy *v1alpha1.L7Policy) []corev1.ContainerPort {
	var ports []corev1.ContainerPort
	numbers := map[string]int32{}
	for i := range policy.Spec.Ingress {
		for _, port := range policy.Spec.Ingress[i].Ports {
			if port.Port == nil || port.Port.StrVal == "" {
				continue
			}
			name := port.Port.StrVal
			if numbers[name] == 0 {
				numbers[name] = 20000 + int32(len(numbers))
			}
			protocol := corev1.Protocol(port.Protocol)
			if protocol == "" {
				protocol = corev1.ProtocolTCP
			}
			ports = append(ports, corev1.ContainerPort{Name: name, Protocol: protocol, ContainerPort: numbers[name]})
		}
	}
	return ports
}
