package agent

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/cni"
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
	slim := &corev1.Service{ObjectMeta: slimMeta(s.ObjectMeta), Spec: corev1.ServiceSpec{
		Ports: s.Spec.Ports, Selector: s.Spec.Selector, ClusterIP: s.Spec.ClusterIP, ClusterIPs: s.Spec.ClusterIPs, Type: s.Spec.Type,
		SessionAffinity: s.Spec.SessionAffinity, SessionAffinityConfig: s.Spec.SessionAffinityConfig, ExternalName: s.Spec.ExternalName,
		InternalTrafficPolicy: s.Spec.InternalTrafficPolicy, PublishNotReadyAddresses: s.Spec.PublishNotReadyAddresses,
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
