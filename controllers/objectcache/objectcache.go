// Package objectcache says what the manager keeps in memory of the objects that it watches: what its controllers read, and
// nothing else. In a large cluster that is a small part of what the API server sends.
package objectcache

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Options returns the options of the manager's cache. Kinds that are not named here are kept whole but for their managed fields.
func Options() cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}:                {Transform: trim(Pod)},
			&corev1.Node{}:               {Transform: trim(Node)},
			&corev1.Namespace{}:          {Transform: trim(Namespace)},
			&corev1.Service{}:            {Transform: trim(Service)},
			&discoveryv1.EndpointSlice{}: {Transform: trim(EndpointSlice)},
		},
	}
}

// trim makes a function that trims one kind into one that leaves others, such as a tombstone, as they are.
func trim[T any](one func(T)) func(any) (any, error) {
	return func(object any) (any, error) {
		if o, ok := object.(T); ok {
			one(o)
		}
		return object, nil
	}
}

// Pod leaves of a Pod its labels, node, addresses, phase and ports.
func Pod(p *corev1.Pod) {
	p.ObjectMeta = meta(&p.ObjectMeta)
	p.Spec = corev1.PodSpec{
		NodeName:       p.Spec.NodeName,
		HostNetwork:    p.Spec.HostNetwork,
		Containers:     withPorts(p.Spec.Containers),
		InitContainers: withPorts(p.Spec.InitContainers),
	}
	p.Status = corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs}
}

// withPorts returns the containers that have ports, and of those what tells of their ports.
func withPorts(all []corev1.Container) []corev1.Container {
	var kept []corev1.Container
	for i := range all {
		if len(all[i].Ports) > 0 {
			kept = append(kept, corev1.Container{Name: all[i].Name, Ports: all[i].Ports, RestartPolicy: all[i].RestartPolicy})
		}
	}
	return kept
}

// Node leaves of a node its labels, taints, addresses and whether it is ready, without the time of its last heartbeat.
func Node(n *corev1.Node) {
	n.ObjectMeta = meta(&n.ObjectMeta)
	n.Spec = corev1.NodeSpec{Unschedulable: n.Spec.Unschedulable, Taints: n.Spec.Taints}
	status := corev1.NodeStatus{Addresses: n.Status.Addresses}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status, Reason: c.Reason}}
		}
	}
	n.Status = status
}

// Namespace leaves of a namespace its labels.
func Namespace(n *corev1.Namespace) {
	n.ObjectMeta = meta(&n.ObjectMeta)
	n.Spec = corev1.NamespaceSpec{}
}

// Service leaves of a Service what it says of itself, without annotations and load balancer state.
func Service(s *corev1.Service) {
	s.ObjectMeta = meta(&s.ObjectMeta)
	s.Status = corev1.ServiceStatus{}
}

// EndpointSlice leaves of an EndpointSlice addresses, ports and conditions.
func EndpointSlice(s *discoveryv1.EndpointSlice) {
	s.ObjectMeta = meta(&s.ObjectMeta)
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		s.Endpoints[i] = discoveryv1.Endpoint{Addresses: e.Addresses, Conditions: e.Conditions, NodeName: e.NodeName}
	}
}

// meta leaves of an object's metadata what identifies it, and its labels.
func meta(o *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: o.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion, Generation: o.Generation,
		Labels: o.Labels, CreationTimestamp: o.CreationTimestamp, DeletionTimestamp: o.DeletionTimestamp,
	}
}
