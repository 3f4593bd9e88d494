package reach

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// May says whether something may be sent.
type May string

// Answers, from the most to the least.
const (
	// Yes: it is allowed, or nothing governs it.
	Yes May = "yes"
	// Audited: it passes, and is reported as what would have been denied.
	Audited May = "audited"
	// Depends: on the request, which the question does not say.
	Depends May = "depends"
	// No: it is denied.
	No May = "no"
)

// rank orders answers: what two edges say comes to the lesser.
func (m May) rank() int { return slices.Index([]May{Yes, Audited, Depends, No}, m) }

// Sender is who would send, and whether it may.
type Sender struct {
	// Pod is "namespace/name"; empty for Block, a range of addresses of which no Pod's is meant.
	Pod   string `json:"pod,omitempty"`
	Block string `json:"block,omitempty"`
	May   May    `json:"may"`
	// Why says which policies and rules decide, edge by edge.
	Why []string `json:"why"`
}

// Answer is who may send it.
type Answer struct {
	Pod      string        `json:"pod"`
	Protocol plan.Protocol `json:"protocol"`
	Port     uint16        `json:"port"`
	// Services are those that lead to the Pod's port: "namespace/name:port".
	Services []string `json:"services,omitempty"`
	// Governed are the policies that govern what the Pod receives; empty for none.
	Governed []string `json:"governed,omitempty"`
	// Senders are the Pods by name, and then the blocks from the narrowest to the widest.
	Senders []Sender `json:"senders"`
}

// WhoCan answers a question about the Pods of a snapshot.
func WhoCan(s plan.Snapshot, q Question) (*Answer, error) {
	if q.Protocol == "" {
		q.Protocol = plan.TCP
	}
	s.Node = "" // all of them
	i := slices.IndexFunc(s.Pods, func(p corev1.Pod) bool { return p.Namespace == q.Pod.Namespace && p.Name == q.Pod.Name })
	if i < 0 {
		return nil, fmt.Errorf("there is no Pod %s", q.Pod)
	}
	pod := &s.Pods[i]
	if pod.Spec.HostNetwork {
		return nil, fmt.Errorf("the Pod %s uses its node's network, which no policy governs", q.Pod)
	}
	port, err := q.number(pod)
	if err != nil {
		return nil, err
	}
	if len(addresses(pod)) == 0 {
		return nil, fmt.Errorf("the Pod %s has no address yet", q.Pod)
	}
	p, _ := plan.Compile(s)
	j := judge{plan: p, question: &q, port: port, edges: map[types.NamespacedName]*plan.Edge{}}
	for i := range p.Edges {
		j.edges[p.Edges[i].Pod] = &p.Edges[i]
	}
	a := &Answer{Pod: q.Pod.String(), Protocol: q.Protocol, Port: port, Services: services(&s, pod, &q, port)}
	ingress := j.group(q.Pod, plan.Ingress)
	if ingress != nil {
		a.Governed = ingress.Policies
	}
	for i := range s.Pods {
		from := &s.Pods[i]
		if from == pod || from.Spec.HostNetwork || over(from) {
			continue
		}
		if sender, ok := j.pod(from, pod, ingress); ok {
			a.Senders = append(a.Senders, sender)
		}
	}
	slices.SortFunc(a.Senders, func(x, y Sender) int { return strings.Compare(x.Pod, y.Pod) })
	a.Senders = append(a.Senders, j.blocks(s.Pods, pod, ingress)...)
	return a, nil
}

// over tells of a Pod that has ended: its address is another's by now.
func over(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func addresses(p *corev1.Pod) []netip.Addr {
	var all []netip.Addr
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			all = append(all, a.Unmap())
		}
	}
	return all
}

// services finds the Services that lead to a port of a Pod.
func services(s *plan.Snapshot, pod *corev1.Pod, q *Question, port uint16) []string {
	var all []string
	for i := range s.EndpointSlices {
		slice := &s.EndpointSlices[i]
		service := slice.Labels["kubernetes.io/service-name"]
		leads := false
		for j := range slice.Endpoints {
			for _, text := range slice.Endpoints[j].Addresses {
				a, err := netip.ParseAddr(text)
				leads = leads || err == nil && slices.Contains(addresses(pod), a.Unmap())
			}
		}
		if !leads || service == "" {
			continue
		}
		for _, p := range slice.Ports {
			if p.Port == nil || uint16(*p.Port) != port || p.Protocol != nil && protocolOf(*p.Protocol) != q.Protocol {
				continue
			}
			name := ""
			if p.Name != nil {
				name = *p.Name
			}
			if at := servicePort(s, slice.Namespace, service, name, q.Protocol); at != "" && !slices.Contains(all, at) {
				all = append(all, at)
			}
		}
	}
	slices.Sort(all)
	return all
}

// servicePort names a Service's own port.
func servicePort(s *plan.Snapshot, namespace, service, port string, protocol plan.Protocol) string {
	for i := range s.Services {
		if s.Services[i].Namespace != namespace || s.Services[i].Name != service {
			continue
		}
		for _, p := range s.Services[i].Spec.Ports {
			if p.Name == port && protocolOf(p.Protocol) == protocol {
				return fmt.Sprintf("%s/%s:%d", namespace, service, p.Port)
			}
		}
	}
	return ""
}
