package plan_test

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// The universe of random snapshots is small, so that everything overlaps with everything.

func someNamespaces() []string { return []string{"a", "b"} }
func someProtocols() []string  { return []string{"TCP", "TCP", "TCP", "UDP", "SCTP"} }
func somePortNames() []string  { return []string{"web", "admin"} }
func somePorts() []int32       { return []int32{80, 81, 82, 90} }

func drawLabels(t *rapid.T) map[string]string {
	set := map[string]string{"app": rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "app")}
	if rapid.Bool().Draw(t, "canary") {
		set["canary"] = "true"
	}
	return set
}

func drawSelector(t *rapid.T, label string) *metav1.LabelSelector {
	switch rapid.IntRange(0, 9).Draw(t, label) {
	case 3: // faulty
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Is"}}}
	case 0:
		return &metav1.LabelSelector{}
	case 1:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"x", "y"}}}}
	case 2:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "canary", Operator: metav1.LabelSelectorOpDoesNotExist}}}
	}
	return &metav1.LabelSelector{MatchLabels: drawLabels(t)}
}

func drawSnapshot(t *rapid.T) *plan.Snapshot {
	s := &plan.Snapshot{Node: "n1"}
	for i, name := range someNamespaces() {
		s.Namespaces = append(s.Namespaces, corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{"kubernetes.io/metadata.name": name, "odd": fmt.Sprint(i % 2)}}})
	}
	for i := range rapid.IntRange(1, 7).Draw(t, "pods") {
		s.Pods = append(s.Pods, drawPod(t, i))
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "services") {
		drawService(t, s, i)
	}
	for i := range rapid.IntRange(1, 5).Draw(t, "policies") {
		s.L7Policies = append(s.L7Policies, drawPolicy(t, i))
	}
	return s
}

func drawPod(t *rapid.T, i int) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: rapid.SampledFrom(someNamespaces()).Draw(t, "namespace"), Name: fmt.Sprint("pod", i), Labels: drawLabels(t)}}
	p.Spec.NodeName = rapid.SampledFrom([]string{"n1", "n1", "n2"}).Draw(t, "node")
	p.Spec.HostNetwork = rapid.IntRange(0, 9).Draw(t, "host") == 0
	p.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{corev1.PodRunning, corev1.PodRunning, corev1.PodRunning,
		corev1.PodPending, corev1.PodSucceeded}).Draw(t, "phase")
	last := i + 1
	if p.Status.Phase == corev1.PodSucceeded {
		last = 1 // an ended Pod's address belongs to another now
	}
	p.Status.PodIPs = []corev1.PodIP{{IP: fmt.Sprint("10.0.0.", last)}}
	if rapid.Bool().Draw(t, "dual") {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: fmt.Sprint("fd00::", last)})
	}
	var c corev1.Container
	for range rapid.IntRange(0, 2).Draw(t, "ports") {
		c.Ports = append(c.Ports, corev1.ContainerPort{
			Name:          rapid.SampledFrom(somePortNames()).Draw(t, "portName"),
			Protocol:      corev1.Protocol(rapid.SampledFrom(someProtocols()).Draw(t, "protocol")),
			ContainerPort: rapid.SampledFrom(somePorts()).Draw(t, "containerPort"),
		})
	}
	p.Spec.Containers = []corev1.Container{c}
	return p
}

func drawService(t *rapid.T, s *plan.Snapshot, i int) {
	service := corev1.Service{ObjectMeta: metav1.ObjectMeta{
		Namespace: rapid.SampledFrom(someNamespaces()).Draw(t, "namespace"), Name: fmt.Sprint("service", i)}}
	if rapid.Bool().Draw(t, "selector") {
		service.Spec.Selector = drawLabels(t)
	}
	slice := discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, ObjectMeta: metav1.ObjectMeta{
		Namespace: service.Namespace, Name: service.Name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service.Name}}}
	for k := range rapid.IntRange(1, 2).Draw(t, "servicePorts") {
		port := corev1.ServicePort{
			Name: somePortNames()[k], Port: int32(1000 + k),
			Protocol:   corev1.Protocol(rapid.SampledFrom([]string{"TCP", "UDP"}).Draw(t, "protocol")),
			TargetPort: intstr.FromInt32(rapid.SampledFrom(somePorts()).Draw(t, "target")),
		}
		if rapid.Bool().Draw(t, "byName") {
			port.TargetPort = intstr.FromString("web")
		}
		service.Spec.Ports = append(service.Spec.Ports, port)
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{
			Name: &port.Name, Protocol: &port.Protocol, Port: new(rapid.SampledFrom(somePorts()).Draw(t, "endpointPort"))})
	}
	for range rapid.IntRange(0, 4).Draw(t, "endpoints") {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprint("10.0.0.", rapid.IntRange(1, 8).Draw(t, "endpoint"))},
			Conditions: discoveryv1.EndpointConditions{Ready: new(rapid.Bool().Draw(t, "ready"))},
		})
	}
	s.Services = append(s.Services, service)
	s.EndpointSlices = append(s.EndpointSlices, slice)
}

func drawPolicy(t *rapid.T, i int) v1alpha1.L7Policy {
	p := v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{
		Namespace: rapid.SampledFrom(someNamespaces()).Draw(t, "namespace"), Name: fmt.Sprint("policy", i)}}
	p.Spec.PodSelector = *drawSelector(t, "podSelector")
	p.Spec.Scope = rapid.SampledFrom([]v1alpha1.Scope{"", v1alpha1.ScopeNamedPorts, v1alpha1.ScopeAllPorts}).Draw(t, "scope")
	p.Spec.Mode = rapid.SampledFrom([]v1alpha1.Mode{"", v1alpha1.ModeEnforce, v1alpha1.ModeAudit}).Draw(t, "mode")
	p.Spec.FailurePolicy = rapid.SampledFrom([]v1alpha1.FailurePolicy{"", v1alpha1.FailOpen}).Draw(t, "failurePolicy")
	p.Spec.DenyAction = rapid.SampledFrom([]v1alpha1.DenyAction{"", v1alpha1.DenyDrop}).Draw(t, "denyAction")
	if rapid.Bool().Draw(t, "ingress") {
		p.Spec.Ingress = []v1alpha1.IngressRule{}
		for k := range rapid.IntRange(0, 3).Draw(t, "rules") {
			r := v1alpha1.IngressRule{Name: fmt.Sprint("in", k), Ports: drawPorts(t), L7: drawL7(t)}
			for range rapid.IntRange(0, 2).Draw(t, "from") {
				r.From = append(r.From, drawPeer(t))
			}
			p.Spec.Ingress = append(p.Spec.Ingress, r)
		}
	}
	if rapid.Bool().Draw(t, "egress") {
		p.Spec.Egress = []v1alpha1.EgressRule{}
		for k := range rapid.IntRange(0, 3).Draw(t, "rules") {
			r := v1alpha1.EgressRule{Name: fmt.Sprint("out", k), Ports: drawPorts(t), L7: drawL7(t)}
			for range rapid.IntRange(0, 2).Draw(t, "to") {
				r.To = append(r.To, drawEgressPeer(t))
			}
			p.Spec.Egress = append(p.Spec.Egress, r)
		}
	}
	return p
}

func drawPorts(t *rapid.T) []v1alpha1.PolicyPort {
	var ports []v1alpha1.PolicyPort
	for range rapid.IntRange(0, 2).Draw(t, "ports") {
		p := v1alpha1.PolicyPort{Protocol: v1alpha1.Protocol(rapid.SampledFrom(append(someProtocols(), "")).Draw(t, "protocol"))}
		switch rapid.IntRange(0, 4).Draw(t, "port") {
		case 0: // every port
		case 1:
			p.Port = new(intstr.FromString(rapid.SampledFrom(somePortNames()).Draw(t, "name")))
		case 2:
			first := rapid.SampledFrom(somePorts()).Draw(t, "first")
			p.Port, p.EndPort = new(intstr.FromInt32(first)), new(first+rapid.Int32Range(0, 9).Draw(t, "length"))
		default:
			p.Port = new(intstr.FromInt32(rapid.SampledFrom(somePorts()).Draw(t, "number")))
		}
		ports = append(ports, p)
	}
	return ports
}

func drawL7(t *rapid.T) []v1alpha1.L7Match {
	switch rapid.IntRange(0, 3).Draw(t, "l7") {
	case 0:
		return nil
	case 1:
		return []v1alpha1.L7Match{{TLS: &v1alpha1.TLSMatch{ServerNames: []string{"a.example"}}}}
	}
	return []v1alpha1.L7Match{{HTTP: &v1alpha1.HTTPMatch{Methods: []string{"GET"}}}}
}

func drawPeer(t *rapid.T) v1alpha1.Peer {
	switch rapid.IntRange(0, 4).Draw(t, "peer") {
	case 0:
		return v1alpha1.Peer{PodSelector: drawSelector(t, "peers"),
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"odd": rapid.SampledFrom([]string{"0", "1"}).Draw(t, "odd")}}}
	case 1:
		return v1alpha1.Peer{NamespaceSelector: &metav1.LabelSelector{}}
	case 2, 3:
		return v1alpha1.Peer{IPBlock: drawBlock(t)}
	}
	return v1alpha1.Peer{PodSelector: drawSelector(t, "peers")}
}

func drawEgressPeer(t *rapid.T) v1alpha1.EgressPeer {
	if rapid.Bool().Draw(t, "not a service") {
		return v1alpha1.EgressPeer{Peer: drawPeer(t)}
	}
	s := &v1alpha1.ServicePeer{
		Name:      fmt.Sprint("service", rapid.IntRange(0, 2).Draw(t, "service")),
		Namespace: rapid.SampledFrom(append(someNamespaces(), "")).Draw(t, "namespace"),
	}
	switch rapid.IntRange(0, 2).Draw(t, "port") {
	case 0:
		s.Port = new(intstr.FromInt32(1000))
	case 1:
		s.Port = new(intstr.FromString("admin"))
	}
	return v1alpha1.EgressPeer{Service: s}
}

func drawBlock(t *rapid.T) *v1alpha1.IPBlock {
	b := &v1alpha1.IPBlock{}
	if rapid.IntRange(0, 2).Draw(t, "family") == 0 {
		b.CIDR = rapid.SampledFrom([]string{"fd00::/64", "fd00::4/126", "::/0", "fd00::2/128"}).Draw(t, "cidr")
		if b.CIDR == "fd00::/64" || b.CIDR == "::/0" {
			b.Except = drawSome(t, "fd00::4/126", "fd00::4/127", "fd00::6/128")
		}
		return b
	}
	b.CIDR = rapid.SampledFrom([]string{"0.0.0.0/0", "10.0.0.0/24", "10.0.0.0/29", "10.0.0.4/30", "10.0.0.3/32", "10.0.0.8/31"}).Draw(t, "cidr")
	switch b.CIDR {
	case "0.0.0.0/0":
		b.Except = drawSome(t, "10.0.0.0/24", "10.0.0.0/29", "10.0.0.5/32", "192.0.2.0/24")
	case "10.0.0.0/24":
		b.Except = drawSome(t, "10.0.0.0/29", "10.0.0.5/32", "10.0.0.8/31")
	case "10.0.0.4/30":
		b.Except = drawSome(t, "10.0.0.5/32", "10.0.0.6/31")
	}
	return b
}

func drawSome(t *rapid.T, from ...string) []string {
	return slices.DeleteFunc(from, func(string) bool { return rapid.Bool().Draw(t, "leave out") })
}
