package lab

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// cluster holds the lab's objects and plays the parts of a control plane that they need: it gives Pods a node and addresses,
// Services their cluster addresses and EndpointSlices. It keeps what it gave: applying an object again changes no address.
type cluster struct {
	nodes []string
	// addresses are the nodes' own, hostIPs those among them that Pods of their networks have.
	addresses  map[string][]netip.Addr
	hostIPs    map[string][]netip.Addr
	namespaces map[string]corev1.Namespace
	pods       map[types.NamespacedName]corev1.Pod
	services   map[types.NamespacedName]corev1.Service
	slices     map[types.NamespacedName]discoveryv1.EndpointSlice
	policies   map[types.NamespacedName]v1alpha1.L7Policy

	configMaps      map[types.NamespacedName]corev1.ConfigMap
	ruleSets        map[types.NamespacedName]v1alpha1.RuleSet
	clusterRuleSets map[types.NamespacedName]v1alpha1.ClusterRuleSet
	inspections     map[types.NamespacedName]v1alpha1.TrafficInspection
	revisions       map[plan.SignatureRef]plan.SignatureRevision

	taken map[netip.Addr]bool
	uids  int
}

// Networks of a lab. Every lab has the same: each is in namespaces of its own, and two labs never meet.
var (
	podNetworks     = map[corev1.IPFamily]string{corev1.IPv4Protocol: "10.244.%d.0/24", corev1.IPv6Protocol: "fd00:10:244:%x::/64"}
	serviceNetworks = map[corev1.IPFamily]netip.Prefix{
		corev1.IPv4Protocol: netip.MustParsePrefix("10.96.0.0/16"),
		corev1.IPv6Protocol: netip.MustParsePrefix("fd00:10:96::/112"),
	}
	families = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
)

func newCluster(nodes int) *cluster {
	c := &cluster{
		addresses:  map[string][]netip.Addr{},
		hostIPs:    map[string][]netip.Addr{},
		namespaces: map[string]corev1.Namespace{},
		pods:       map[types.NamespacedName]corev1.Pod{},
		services:   map[types.NamespacedName]corev1.Service{},
		slices:     map[types.NamespacedName]discoveryv1.EndpointSlice{},
		policies:   map[types.NamespacedName]v1alpha1.L7Policy{},

		configMaps:      map[types.NamespacedName]corev1.ConfigMap{},
		ruleSets:        map[types.NamespacedName]v1alpha1.RuleSet{},
		clusterRuleSets: map[types.NamespacedName]v1alpha1.ClusterRuleSet{},
		inspections:     map[types.NamespacedName]v1alpha1.TrafficInspection{},
		revisions:       map[plan.SignatureRef]plan.SignatureRevision{},

		taken: map[netip.Addr]bool{},
	}
	for i := range nodes {
		c.nodes = append(c.nodes, fmt.Sprintf("node-%d", i+1))
	}
	return c
}

// podNetwork is a node's Pod network; nodes are counted from 0. Its first address is the gateway.
func podNetwork(node int, family corev1.IPFamily) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf(podNetworks[family], node+1))
}

func (c *cluster) addNamespace(ns corev1.Namespace) {
	if ns.Labels == nil {
		ns.Labels = map[string]string{}
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
	c.namespaces[ns.Name] = ns
}

func (c *cluster) ensureNamespace(name string) {
	if _, ok := c.namespaces[name]; !ok {
		c.addNamespace(corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
}

// addPod gives a Pod its node, addresses and a running status.
func (c *cluster) addPod(pod corev1.Pod) error {
	c.ensureNamespace(pod.Namespace)
	key := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
	if old, ok := c.pods[key]; ok {
		ready := readiness(&pod)
		pod.UID, pod.Spec.NodeName, pod.Status = old.UID, old.Spec.NodeName, old.Status
		pod.Status.Conditions = ready
		c.pods[key] = pod
		return nil
	}
	if pod.UID == "" {
		c.uids++
		pod.UID = types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", c.uids))
	}
	if pod.Spec.NodeName == "" {
		pod.Spec.NodeName = c.nodes[len(c.pods)%len(c.nodes)]
	}
	node := slices.Index(c.nodes, pod.Spec.NodeName)
	if node < 0 {
		return fmt.Errorf("Pod %s: spec.nodeName %q is none of the lab's nodes, %s: leave it out, or give the scenario more nodes",
			key, pod.Spec.NodeName, strings.Join(c.nodes, ", "))
	}
	if pod.Spec.HostNetwork {
		pod.Status.PodIPs = nil
		for _, a := range c.hostIPs[pod.Spec.NodeName] {
			pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: a.String()})
		}
	} else if len(pod.Status.PodIPs) == 0 {
		networks, err := c.networksOf(&pod, node)
		if err != nil {
			return fmt.Errorf("Pod %s: %w", key, err)
		}
		for _, network := range networks {
			a, err := c.allot(network, 10)
			if err != nil {
				return fmt.Errorf("Pod %s: %w", key, err)
			}
			pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: a.String()})
		}
	}
	if len(pod.Status.PodIPs) > 0 {
		pod.Status.PodIP = pod.Status.PodIPs[0].IP
	}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = readiness(&pod)
	c.pods[key] = pod
	return nil
}

// readiness is the Ready condition that a Pod's manifest gives it; true when it gives none.
func readiness(pod *corev1.Pod) []corev1.PodCondition {
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			ready.Status = c.Status
		}
	}
	return []corev1.PodCondition{ready}
}

func isReady(pod *corev1.Pod) bool {
	return len(pod.Status.Conditions) > 0 && pod.Status.Conditions[0].Status == corev1.ConditionTrue
}

// addService gives a Service its cluster addresses, and fills in what the API server would.
func (c *cluster) addService(svc corev1.Service) error {
	c.ensureNamespace(svc.Namespace)
	key := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
	if old, ok := c.services[key]; ok && len(svc.Spec.ClusterIPs) == 0 {
		svc.Spec.ClusterIP, svc.Spec.ClusterIPs, svc.Spec.IPFamilies = old.Spec.ClusterIP, old.Spec.ClusterIPs, old.Spec.IPFamilies
	}
	svc.Spec.Type = cmp.Or(svc.Spec.Type, corev1.ServiceTypeClusterIP)
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		p.Protocol = orTCP(p.Protocol)
		if p.TargetPort == (intstr.IntOrString{}) {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	completeAffinity(&svc)
	if svc.Spec.Type != corev1.ServiceTypeExternalName {
		if err := c.allotClusterIPs(&svc); err != nil {
			return fmt.Errorf("Service %s: %w", key, err)
		}
	}
	c.services[key] = svc
	return nil
}

// completeAffinity says how long a Service keeps a client that does not say so itself.
func completeAffinity(svc *corev1.Service) {
	c := svc.Spec.SessionAffinityConfig
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP && (c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil) {
		svc.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{
			ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(corev1.DefaultClientIPServiceAffinitySeconds)},
		}
	}
}

// allotClusterIPs completes a Service's families and addresses. One that names its own addresses, or None, keeps them.
func (c *cluster) allotClusterIPs(svc *corev1.Service) error {
	if len(svc.Spec.IPFamilies) == 0 {
		svc.Spec.IPFamilies = familiesOf(svc)
	}
	if len(svc.Spec.ClusterIPs) > 0 {
		for _, a := range parseAddresses(svc.Spec.ClusterIPs) {
			c.taken[a] = true
		}
		return nil
	}
	for _, family := range svc.Spec.IPFamilies {
		a, err := c.allot(serviceNetworks[family], 10)
		if err != nil {
			return err
		}
		svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, a.String())
	}
	svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	return nil
}

// familiesOf gives the families of the addresses that a Service names; of one that names none, both, or one when it asks for that.
func familiesOf(svc *corev1.Service) []corev1.IPFamily {
	var named []corev1.IPFamily
	for _, text := range svc.Spec.ClusterIPs {
		switch {
		case text == corev1.ClusterIPNone:
		case isIPv6(text):
			named = append(named, corev1.IPv6Protocol)
		default:
			named = append(named, corev1.IPv4Protocol)
		}
	}
	switch {
	case len(named) > 0:
		return named
	case svc.Spec.IPFamilyPolicy != nil && *svc.Spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack:
		return families[:1]
	}
	return families
}

// allot picks the first free address of a network, from the given one on.
func (c *cluster) allot(network netip.Prefix, from int) (netip.Addr, error) {
	a := network.Addr()
	for range from {
		a = a.Next()
	}
	for ; network.Contains(a); a = a.Next() {
		if !c.taken[a] {
			c.taken[a] = true
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("the network %s has no address left: use fewer objects or more nodes", network)
}

// snapshot is what the control plane would show one node.
func (c *cluster) snapshot(node string) plan.Snapshot {
	s := plan.Snapshot{
		Node: node, LocalAddresses: c.addresses[node],
		Namespaces: sorted(c.namespaces), Pods: sorted(c.pods), Services: sorted(c.services), L7Policies: sorted(c.policies),
		TrafficInspections: sorted(c.inspections), RuleSets: sorted(c.ruleSets), ClusterRuleSets: sorted(c.clusterRuleSets), Revisions: sorted(c.revisions),
	}
	s.EndpointSlices = endpointSlices(s.Services, s.Pods, sorted(c.slices))
	s.Nodes = c.nodeObjects()
	return s
}

// sorted gives a map's values in the order of their keys.
func sorted[K comparable, V any](m map[K]V) []V {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b K) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	values := make([]V, 0, len(m))
	for _, k := range keys {
		values = append(values, m[k])
	}
	return values
}

func isIPv6(address string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && a.Is6()
}
