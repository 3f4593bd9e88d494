package plan

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// checkPorts looks for ports that no Pod has for which they are meant: at ingress the selected Pods, at egress those that
// selectors among the peers select. The commonest mistake is to write the port of a Service that leads to these Pods.
func checkPorts(x *index, p *policy, r *rule, s *ruleSource) {
	meant := p.selected.pods
	if r.direction == Egress {
		meant = r.peers.pods
	}
	for _, spec := range r.ports {
		if len(meant) == 0 || hasPort(x, meant, &spec) {
			continue
		}
		if !spec.single && spec.name == "" {
			continue
		}
		if m, ok := x.findMistake(meant, &spec); ok {
			p.dangle(ReasonServicePortForPodPort, spec.field+".port", "%s", m.sentence(&spec, r.direction, s.peersField))
			continue
		}
		if spec.name != "" && !namedAnywhere(x, r, &spec) {
			p.dangle(ReasonNamedPortNotFound, spec.field+".port", "is %q, but none of the Pods that are meant, such as %s, has a %s "+
				"port of that name: the rule is without effect there. Write a number, or name the port in the Pods' containers.",
				spec.name, x.pods[meant[0]].name, protocolName(spec.protocol))
		}
	}
}

// hasPort says whether a container of one of the Pods declares the port.
func hasPort(x *index, pods []int32, s *portSpec) bool {
	return slices.ContainsFunc(pods, func(id int32) bool {
		if s.name != "" {
			return len(x.pods[id].namedPort(s.name, s.protocol)) > 0
		}
		return s.single && x.pods[id].declares(s.protocol, s.number())
	})
}

// namedAnywhere says whether a named port of egress stands for something on any peer, also those that no selector selects.
func namedAnywhere(x *index, r *rule, s *portSpec) bool {
	if r.direction == Ingress {
		return false
	}
	for id := range r.peerPods(x) {
		if len(x.pods[id].namedPort(s.name, s.protocol)) > 0 {
			return true
		}
	}
	return false
}

// mistake is a port of a Service that was written where a Pod's is wanted.
type mistake struct {
	service *service
	port    *corev1.ServicePort
	// targets are the numbers, sorted, of the Pods' ports that it leads to.
	targets []uint16
}

// findMistake finds a Service with such a port whose Pods are among those that are meant, unless some Service leads to that
// very port of theirs.
func (x *index) findMistake(meant []int32, spec *portSpec) (mistake, bool) {
	var found mistake
	for _, name := range x.serviceNames {
		s := x.services[name]
		common := intersect(s.selected.pods, meant)
		if len(common) == 0 {
			continue
		}
		for i := range s.object.Spec.Ports {
			port := &s.object.Spec.Ports[i]
			protocol, ok := protocolNumber(string(port.Protocol))
			if !ok || protocol != spec.protocol {
				continue
			}
			targets := x.targets(common, port)
			if spec.name == "" && slices.Contains(targets, spec.number()) {
				return mistake{}, false
			}
			if found.service == nil && len(targets) > 0 && isPortOf(port, spec) {
				found = mistake{s, port, targets}
			}
		}
	}
	return found, found.service != nil
}

func (x *index) targets(pods []int32, port *corev1.ServicePort) []uint16 {
	var targets []uint16
	for _, id := range pods {
		targets = append(targets, targetsOn(&x.pods[id], port)...)
	}
	slices.Sort(targets)
	return slices.Compact(targets)
}

func isPortOf(port *corev1.ServicePort, spec *portSpec) bool {
	if spec.name != "" {
		return port.Name == spec.name
	}
	return port.Port == int32(spec.number())
}

func (m mistake) sentence(spec *portSpec, direction Direction, peersField string) string {
	written := spec.name
	if written == "" {
		written = fmt.Sprint(spec.number())
	}
	numbers := make([]string, 0, len(m.targets))
	for _, t := range m.targets {
		numbers = append(numbers, fmt.Sprint(t))
	}
	remedy := "write " + strings.Join(numbers, " or ")
	if m.port.TargetPort.Type == intstr.String {
		remedy += " or that port's name, " + m.port.TargetPort.StrVal
	}
	if direction == Egress {
		remedy += fmt.Sprintf(", or leave ports out and name the Service in %s: {service: {namespace: %s, name: %s, port: %s}}",
			peersField, m.service.name.Namespace, m.service.name.Name, written)
	}
	return fmt.Sprintf("is %s, which is a port of the Service %s, while its Pods listen on %s. Rules are for the Pods' own ports, "+
		"whichever way a connection comes: %s.", written, m.service.name, strings.Join(numbers, " and "), remedy)
}

func intersect(a, b []int32) []int32 {
	var common []int32
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			a = a[1:]
		case a[0] > b[0]:
			b = b[1:]
		default:
			common = append(common, a[0])
			a, b = a[1:], b[1:]
		}
	}
	return common
}

// describePorts lists a Service's ports for a sentence.
func describePorts(ports []corev1.ServicePort) string {
	if len(ports) == 0 {
		return "no ports"
	}
	var all []string
	for _, p := range ports {
		text := fmt.Sprint(p.Port)
		if p.Name != "" {
			text += " (" + p.Name + ")"
		}
		all = append(all, text)
	}
	return "only " + strings.Join(all, ", ")
}
