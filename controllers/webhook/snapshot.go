package webhook

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// snapshotKinds are what a snapshot is made of.
func snapshotKinds() []client.Object {
	return []client.Object{
		&corev1.Namespace{}, &corev1.Node{}, &corev1.Pod{}, &corev1.Service{}, &discoveryv1.EndpointSlice{}, &v1alpha1.L7Policy{},
	}
}

// snapshot reads what exists as far as a policy can refer to it: of a policy that names no other namespace, its own alone.
func (v *Validator) snapshot(ctx context.Context, policy *v1alpha1.L7Policy) (plan.Snapshot, error) {
	own := client.InNamespace(policy.Namespace)
	among := own
	if refersElsewhere(policy) {
		among = client.InNamespace("")
	}
	var namespaces corev1.NamespaceList
	var nodes corev1.NodeList
	var pods corev1.PodList
	var services corev1.ServiceList
	var slices discoveryv1.EndpointSliceList
	var policies v1alpha1.L7PolicyList
	// Nothing of it is changed, and copies of thousands of Pods cost more than the judgement.
	shared := client.UnsafeDisableDeepCopy
	err := errors.Join(
		v.Reader.List(ctx, &namespaces, shared),
		v.Reader.List(ctx, &nodes, shared), // one node hides no clients
		v.Reader.List(ctx, &pods, among, shared),
		v.Reader.List(ctx, &services, among, shared),
		v.Reader.List(ctx, &slices, among, shared),
		v.Reader.List(ctx, &policies, own, shared),
	)
	return plan.Snapshot{
		Namespaces: namespaces.Items, Nodes: nodes.Items, Pods: pods.Items, Services: services.Items,
		EndpointSlices: slices.Items, L7Policies: policies.Items,
	}, err
}

// refersElsewhere says whether a policy has peers outside of its own namespace.
func refersElsewhere(policy *v1alpha1.L7Policy) bool {
	elsewhere := func(p *v1alpha1.Peer) bool { return p.NamespaceSelector != nil }
	for i := range policy.Spec.Ingress {
		for j := range policy.Spec.Ingress[i].From {
			if elsewhere(&policy.Spec.Ingress[i].From[j]) {
				return true
			}
		}
	}
	for i := range policy.Spec.Egress {
		for j := range policy.Spec.Egress[i].To {
			to := &policy.Spec.Egress[i].To[j]
			if elsewhere(&to.Peer) || to.Service != nil && to.Service.Namespace != "" && to.Service.Namespace != policy.Namespace {
				return true
			}
		}
	}
	return false
}
