package agent

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/cni"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

// The slim functions keep of an object what a plan reads, before it enters the cache.

// slimMeta keeps names, labels and versions.
func slimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		Labels: m.Labels, CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
}

func slimPod(in any) (any, error) {
	p, ok := in.(*corev1.Pod)
	if !ok {
		return in, nil
	}
	meta := slimMeta(p.ObjectMeta)
	if uid, static := p.Annotations[cni.StaticPodUID]; static {
		meta.Annotations = map[string]string{cni.StaticPodUID: uid}
	}
	for _, key := range []string{sidecar.AnnotationSidecars, sidecar.AnnotationWithout} {
		if value, ok := p.Annotations[key]; ok {
			if meta.Annotations == nil {
				meta.Annotations = map[string]string{}
			}
			meta.Annotations[key] = value
		}
	}
	return &corev1.Pod{
		ObjectMeta: meta,
		Spec: corev1.PodSpec{
			NodeName: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork,
			InitContainers: slimContainers(p.Spec.InitContainers), Containers: slimContainers(p.Spec.Containers),
		},
		Status: corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs},
	}, nil
}

func slimContainers(all []corev1.Container) []corev1.Container {
	kept := make([]corev1.Container, 0, len(all))
	for _, c := range all {
		if len(c.Ports) > 0 {
			kept = append(kept, corev1.Container{Name: c.Name, Ports: c.Ports, RestartPolicy: c.RestartPolicy})
		}
	}
	return kept
}

func slimNode(in any) (any, error) {
	n, ok := in.(*corev1.Node)
	if !ok {
		return in, nil
	}
	slim := &corev1.Node{ObjectMeta: slimMeta(n.ObjectMeta), Status: corev1.NodeStatus{Addresses: n.Status.Addresses}}
	slim.Labels = nil
	return slim, nil
}

func slimService(in any) (any, error) {
	s, ok := in.(*corev1.Service)
	if !ok {
		return in, nil
	}
	slim := &corev1.Service{ObjectMeta: slimMeta(s.ObjectMeta), Status: corev1.ServiceStatus{LoadBalancer: s.Status.LoadBalancer}, Spec: corev1.ServiceSpec{
		Ports: s.Spec.Ports, Selector: s.Spec.Selector, ClusterIP: s.Spec.ClusterIP, ClusterIPs: s.Spec.ClusterIPs, Type: s.Spec.Type,
		SessionAffinity: s.Spec.SessionAffinity, SessionAffinityConfig: s.Spec.SessionAffinityConfig, ExternalName: s.Spec.ExternalName,
		InternalTrafficPolicy: s.Spec.InternalTrafficPolicy, PublishNotReadyAddresses: s.Spec.PublishNotReadyAddresses,
		ExternalIPs: s.Spec.ExternalIPs, LoadBalancerSourceRanges: s.Spec.LoadBalancerSourceRanges,
	}}
	slim.Labels = nil
	return slim, nil
}

func slimEndpointSlice(in any) (any, error) {
	s, ok := in.(*discoveryv1.EndpointSlice)
	if !ok {
		return in, nil
	}
	slim := &discoveryv1.EndpointSlice{
		ObjectMeta: slimMeta(s.ObjectMeta), AddressType: s.AddressType, Ports: s.Ports, Endpoints: make([]discoveryv1.Endpoint, len(s.Endpoints)),
	}
	slim.Labels = map[string]string{discoveryv1.LabelServiceName: s.Labels[discoveryv1.LabelServiceName]}
	for i, e := range s.Endpoints {
		slim.Endpoints[i] = discoveryv1.Endpoint{Addresses: e.Addresses, Conditions: e.Conditions, NodeName: e.NodeName}
		if e.TargetRef != nil && e.TargetRef.Kind == "Pod" { // so that alerts can name it
			slim.Endpoints[i].TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: e.TargetRef.Name}
		}
	}
	return slim, nil
}

func slimPolicy(in any) (any, error) {
	p, ok := in.(*v1alpha1.L7Policy)
	if !ok {
		return in, nil
	}
	slim := &v1alpha1.L7Policy{ObjectMeta: slimMeta(p.ObjectMeta), Spec: p.Spec}
	slim.Labels = nil
	return slim, nil
}

func slimAddressSlice(in any) (any, error) {
	s, ok := in.(*v1alpha1.AddressSlice)
	if !ok {
		return in, nil
	}
	return &v1alpha1.AddressSlice{ObjectMeta: slimMeta(s.ObjectMeta), Selector: s.Selector, Peers: s.Peers}, nil
}

func slimEngine(in any) (any, error) {
	e, ok := in.(*v1alpha1.Engine)
	if !ok {
		return in, nil
	}
	return &v1alpha1.Engine{ObjectMeta: slimMeta(e.ObjectMeta), Spec: e.Spec}, nil
}

func slimInspection(in any) (any, error) {
	i, ok := in.(*v1alpha1.TrafficInspection)
	if !ok {
		return in, nil
	}
	slim := &v1alpha1.TrafficInspection{ObjectMeta: slimMeta(i.ObjectMeta), Spec: i.Spec}
	slim.Labels = nil
	return slim, nil
}

func slimFlowExport(in any) (any, error) {
	o, ok := in.(*v1alpha1.FlowExport)
	if !ok {
		return in, nil
	}
	slim := &v1alpha1.FlowExport{ObjectMeta: slimMeta(o.ObjectMeta), Spec: o.Spec}
	slim.Labels = nil
	return slim, nil
}

// slimRuleSet keeps which revision is run where: the rules themselves, a RuleSet's spec may have 256 KiB of, come as revisions.
func slimRuleSet(in any) (any, error) {
	r, ok := in.(*v1alpha1.RuleSet)
	if !ok {
		return in, nil
	}
	slim := &v1alpha1.RuleSet{ObjectMeta: slimMeta(r.ObjectMeta), Status: slimRuleSetStatus(&r.Status)}
	slim.Labels = nil
	return slim, nil
}

func slimClusterRuleSet(in any) (any, error) {
	r, ok := in.(*v1alpha1.ClusterRuleSet)
	if !ok {
		return in, nil
	}
	slim := &v1alpha1.ClusterRuleSet{ObjectMeta: slimMeta(r.ObjectMeta), Status: slimRuleSetStatus(&r.Status)}
	slim.Labels = nil
	return slim, nil
}

func slimRuleSetStatus(s *v1alpha1.RuleSetStatus) v1alpha1.RuleSetStatus {
	slim := v1alpha1.RuleSetStatus{Revision: s.Revision, Previous: s.Previous}
	if r := s.Rollout; r != nil {
		slim.Rollout = &v1alpha1.RolloutStatus{Revision: r.Revision, Phase: r.Phase, Validator: r.Validator, Canaries: r.Canaries}
	}
	return slim
}
