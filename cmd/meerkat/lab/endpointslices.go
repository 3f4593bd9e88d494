package lab

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// endpointSlices makes what the EndpointSlice controller would: for each Service with a selector that has no slice among
// given, one slice an address family, with the selected Pods as endpoints: ready, unless their status says otherwise or they
// are being deleted.
func endpointSlices(services []corev1.Service, pods []corev1.Pod, given []discoveryv1.EndpointSlice) []discoveryv1.EndpointSlice {
	slicesOf := map[string]bool{}
	for _, s := range given {
		slicesOf[s.Namespace+"/"+s.Labels[discoveryv1.LabelServiceName]] = true
	}
	made := slices.Clone(given)
	for i := range services {
		svc := &services[i]
		if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName || slicesOf[svc.Namespace+"/"+svc.Name] {
			continue
		}
		for _, family := range svc.Spec.IPFamilies {
			made = append(made, slicesFor(svc, pods, family)...)
		}
	}
	return made
}

// slicesFor makes a Service's slices of one family: Pods on which a named target port has another number get a slice of
// their own, since a slice has one number for each port.
func slicesFor(svc *corev1.Service, pods []corev1.Pod, family corev1.IPFamily) []discoveryv1.EndpointSlice {
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	var made []discoveryv1.EndpointSlice
	for i := range pods {
		pod := &pods[i]
		address := addressOf(pod, family)
		if pod.Namespace != svc.Namespace || address == "" || !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		ports := endpointPorts(svc, pod)
		at := slices.IndexFunc(made, func(s discoveryv1.EndpointSlice) bool { return samePorts(s.Ports, ports) })
		if at < 0 {
			at = len(made)
			made = append(made, discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: svc.Namespace, Name: sliceName(svc.Name, family, at),
					Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name},
				},
				AddressType: discoveryv1.AddressType(family),
				Ports:       ports,
			})
		}
		serving, terminating := isReady(pod), pod.DeletionTimestamp != nil
		made[at].Endpoints = append(made[at].Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{address},
			NodeName:   &pod.Spec.NodeName,
			Conditions: discoveryv1.EndpointConditions{Ready: new(serving && !terminating), Serving: &serving, Terminating: &terminating},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		})
	}
	return made
}

func sliceName(service string, family corev1.IPFamily, n int) string {
	name := service + "-" + map[corev1.IPFamily]string{corev1.IPv4Protocol: "ipv4", corev1.IPv6Protocol: "ipv6"}[family]
	if n > 0 {
		name += "-" + string(rune('a'+n))
	}
	return name
}

func samePorts(a, b []discoveryv1.EndpointPort) bool {
	return slices.EqualFunc(a, b, func(x, y discoveryv1.EndpointPort) bool {
		return *x.Name == *y.Name && *x.Port == *y.Port && *x.Protocol == *y.Protocol
	})
}

// endpointPorts resolves a Service's target ports on one Pod; a name that the Pod does not have is left out.
func endpointPorts(svc *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	var ports []discoveryv1.EndpointPort
	for _, p := range svc.Spec.Ports {
		number, ok := targetPort(p, pod)
		if ok {
			ports = append(ports, discoveryv1.EndpointPort{Name: new(p.Name), Port: new(number), Protocol: new(p.Protocol), AppProtocol: p.AppProtocol})
		}
	}
	return ports
}

func targetPort(p corev1.ServicePort, pod *corev1.Pod) (int32, bool) {
	switch {
	case p.TargetPort.Type == intstr.String:
		return containerPort(pod, p.TargetPort.StrVal, p.Protocol)
	case p.TargetPort.IntVal != 0:
		return p.TargetPort.IntVal, true
	}
	return p.Port, true
}

// containerPort finds the number of a Pod's named port.
func containerPort(pod *corev1.Pod, name string, protocol corev1.Protocol) (int32, bool) {
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == name && orTCP(p.Protocol) == orTCP(protocol) {
				return p.ContainerPort, true
			}
		}
	}
	return 0, false
}

func orTCP(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

func addressOf(pod *corev1.Pod, family corev1.IPFamily) string {
	for _, ip := range pod.Status.PodIPs {
		if isIPv6(ip.IP) == (family == corev1.IPv6Protocol) {
			return ip.IP
		}
	}
	return ""
}
