package conformance

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/matcher"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// What the generator's cases are about: three namespaces of three Pods, each with servers of three protocols on two ports.
var (
	namespaces = []string{"x", "y", "z"}
	podNames   = []string{"a", "b", "c"}
	protocols  = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}
	portNums   = []int{80, 81}
)

const nodes = 2

// pod is a Pod with a Service of its own.
type pod struct {
	namespace, name string
	labels          map[string]string
	number          int // of all Pods that there were; gives addresses and the node
	address         netip.Addr
	service         netip.Addr
}

func (p *pod) String() string { return p.namespace + "/" + p.name }

// cluster is what the generator's steps change: what policies are about, and the NetworkPolicies.
type cluster struct {
	namespaces map[string]map[string]string // names to labels
	pods       []*pod
	policies   []*networkingv1.NetworkPolicy
	made       int
}

func newCluster() *cluster {
	c := &cluster{namespaces: map[string]map[string]string{}}
	for _, ns := range namespaces {
		c.addNamespace(ns, map[string]string{"ns": ns})
		for _, name := range podNames {
			c.addPod(ns, name, map[string]string{"pod": name})
		}
	}
	return c
}

func (c *cluster) addNamespace(name string, labels map[string]string) {
	labels = maps.Clone(labels)
	labels[corev1.LabelMetadataName] = name
	c.namespaces[name] = labels
}

// addPod gives a Pod addresses. The Pods of one node are in one block of 256 addresses, and in several of 16.
func (c *cluster) addPod(namespace, name string, labels map[string]string) {
	n := c.made
	c.made++
	c.pods = append(c.pods, &pod{
		namespace: namespace, name: name, labels: labels, number: n,
		address: netip.AddrFrom4([4]byte{10, 244, byte(1 + n%nodes), byte(11 + n)}),
		service: netip.AddrFrom4([4]byte{10, 96, 0, byte(11 + n)}),
	})
}

func (c *cluster) pod(namespace, name string) *pod {
	for _, p := range c.pods {
		if p.namespace == namespace && p.name == name {
			return p
		}
	}
	return nil
}

// do performs one action of a step.
func (c *cluster) do(a *generator.Action) error {
	switch {
	case a.CreatePolicy != nil:
		c.policies = append(c.policies, a.CreatePolicy.Policy)
	case a.UpdatePolicy != nil:
		c.deletePolicy(a.UpdatePolicy.Policy.Namespace, a.UpdatePolicy.Policy.Name)
		c.policies = append(c.policies, a.UpdatePolicy.Policy)
	case a.DeletePolicy != nil:
		c.deletePolicy(a.DeletePolicy.Namespace, a.DeletePolicy.Name)
	case a.CreateNamespace != nil:
		c.addNamespace(a.CreateNamespace.Namespace, a.CreateNamespace.Labels)
	case a.SetNamespaceLabels != nil:
		c.addNamespace(a.SetNamespaceLabels.Namespace, a.SetNamespaceLabels.Labels)
	case a.DeleteNamespace != nil:
		ns := a.DeleteNamespace.Namespace
		delete(c.namespaces, ns)
		c.pods = slices.DeleteFunc(c.pods, func(p *pod) bool { return p.namespace == ns })
		c.policies = slices.DeleteFunc(c.policies, func(p *networkingv1.NetworkPolicy) bool { return p.Namespace == ns })
	case a.CreatePod != nil:
		c.addPod(a.CreatePod.Namespace, a.CreatePod.Pod, a.CreatePod.Labels)
	case a.SetPodLabels != nil:
		c.pod(a.SetPodLabels.Namespace, a.SetPodLabels.Pod).labels = a.SetPodLabels.Labels
	case a.DeletePod != nil:
		c.pods = slices.DeleteFunc(c.pods, func(p *pod) bool {
			return p.namespace == a.DeletePod.Namespace && p.name == a.DeletePod.Pod
		})
	default:
		return fmt.Errorf("the generator has an action that is not known here: %+v", a)
	}
	return nil
}

func (c *cluster) deletePolicy(namespace, name string) {
	c.policies = slices.DeleteFunc(c.policies, func(p *networkingv1.NetworkPolicy) bool {
		return p.Namespace == namespace && p.Name == name
	})
}

// simulated gives cyclonus's simulator's verdict on every probe.
func (c *cluster) simulated() func(probe) bool {
	policies := matcher.BuildNetworkPolicies(true, c.policies)
	peer := func(p *pod) *matcher.TrafficPeer {
		return &matcher.TrafficPeer{IP: p.address.String(), Internal: &matcher.InternalPeer{
			PodLabels: p.labels, NamespaceLabels: c.namespaces[p.namespace], Namespace: p.namespace,
		}}
	}
	return func(p probe) bool {
		return policies.IsTrafficAllowed(&matcher.Traffic{
			Source: peer(p.from), Destination: peer(p.to),
			ResolvedPort: p.port, ResolvedPortName: portName(p.protocol, p.port), Protocol: p.protocol,
		}).IsAllowed()
	}
}
