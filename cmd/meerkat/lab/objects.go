package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/manifests"
)

// add makes objects part of the cluster. Nothing is added when one of them cannot be.
func (c *cluster) add(o *manifests.Objects) error {
	var errs []error
	for _, ns := range o.Namespaces {
		c.addNamespace(ns)
	}
	for _, p := range o.Pods {
		errs = append(errs, c.addPod(p))
	}
	for _, s := range o.Services {
		errs = append(errs, c.addService(s))
	}
	for _, s := range o.EndpointSlices {
		c.ensureNamespace(s.Namespace)
		c.slices[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}] = s
	}
	for _, p := range o.L7Policies {
		c.ensureNamespace(p.Namespace)
		key := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
		before, known := c.policies[key]
		writtenNow(&p.ObjectMeta, &before.ObjectMeta, known)
		c.policies[key] = p
	}
	c.addInspections(o)
	return errors.Join(errs...)
}

// writtenNow fills in what an API server does of an object whose spec was written, as far as somebody asks for it.
func writtenNow(o, before *metav1.ObjectMeta, known bool) {
	now := metav1.Now()
	o.Generation, o.CreationTimestamp = before.Generation+1, before.CreationTimestamp
	if !known {
		o.CreationTimestamp = now
	}
	o.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "meerkat-lab", Time: &now, FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)}}
}

// addInspections adds inspections, and what they are made of.
func (c *cluster) addInspections(o *manifests.Objects) {
	for _, m := range o.ConfigMaps {
		c.ensureNamespace(m.Namespace)
		c.configMaps[types.NamespacedName{Namespace: m.Namespace, Name: m.Name}] = m
	}
	for _, s := range o.RuleSets {
		c.ensureNamespace(s.Namespace)
		key := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
		s.Generation = c.ruleSets[key].Generation + 1
		c.ruleSets[key] = s
	}
	for _, s := range o.ClusterRuleSets {
		key := types.NamespacedName{Name: s.Name}
		s.Generation = c.clusterRuleSets[key].Generation + 1
		c.clusterRuleSets[key] = s
	}
	for _, i := range o.TrafficInspections {
		c.ensureNamespace(i.Namespace)
		key := types.NamespacedName{Namespace: i.Namespace, Name: i.Name}
		i.Generation = c.inspections[key].Generation + 1
		c.inspections[key] = i
	}
}

// removeInspections takes them out.
func (c *cluster) removeInspections(o *manifests.Objects) {
	for _, m := range o.ConfigMaps {
		delete(c.configMaps, types.NamespacedName{Namespace: m.Namespace, Name: m.Name})
	}
	for _, s := range o.RuleSets {
		delete(c.ruleSets, types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
	}
	for _, s := range o.ClusterRuleSets {
		delete(c.clusterRuleSets, types.NamespacedName{Name: s.Name})
	}
	for _, i := range o.TrafficInspections {
		delete(c.inspections, types.NamespacedName{Namespace: i.Namespace, Name: i.Name})
	}
}

// remove takes objects out and gives the Pods among them that were there.
func (c *cluster) remove(o *manifests.Objects) []types.NamespacedName {
	var pods []types.NamespacedName
	for _, p := range o.Pods {
		key := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
		if old, ok := c.pods[key]; ok {
			pods = append(pods, key)
			for _, ip := range old.Status.PodIPs {
				if a, err := netip.ParseAddr(ip.IP); err == nil {
					delete(c.taken, a)
				}
			}
			delete(c.pods, key)
		}
	}
	for _, s := range o.Services {
		delete(c.services, types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
	}
	for _, s := range o.EndpointSlices {
		delete(c.slices, types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
	}
	for _, p := range o.L7Policies {
		delete(c.policies, types.NamespacedName{Namespace: p.Namespace, Name: p.Name})
	}
	c.removeInspections(o)
	return pods
}

// nodeNetwork gives a node's Pod networks, one a family.
func nodeNetwork(node int) []netip.Prefix {
	var all []netip.Prefix
	for _, f := range families {
		all = append(all, podNetwork(node, f))
	}
	return all
}

// gateways are a node's own addresses in its Pod networks: the first of each.
func gateways(node int) []netip.Addr {
	var all []netip.Addr
	for _, p := range nodeNetwork(node) {
		all = append(all, p.Addr().Next())
	}
	return all
}

// containerPorts lists a Pod's ports.
func containerPorts(pod *corev1.Pod) []corev1.ContainerPort {
	var all []corev1.ContainerPort
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		all = append(all, c.Ports...)
	}
	return all
}

// portString is a Service port as `kubectl get services` prints it, with its target.
func portString(p corev1.ServicePort) string {
	return fmt.Sprintf("%d/%s -> %s", p.Port, p.Protocol, p.TargetPort.String())
}
