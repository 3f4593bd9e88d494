package reach

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Question is what may be sent to a Pod.
type Question struct {
	Pod types.NamespacedName
	// Protocol is that of the port; "" stands for TCP. Port is the Pod's own, by number or by the name of a container's port.
	Protocol plan.Protocol
	Port     intstr.IntOrString
	// Request is what is sent; nil for whatever there is.
	Request *l7.Request
}

// number is the port's number at the Pod.
func (q *Question) number(pod *corev1.Pod) (uint16, error) {
	if q.Port.Type == intstr.Int {
		if q.Port.IntVal < 1 || q.Port.IntVal > 65535 {
			return 0, fmt.Errorf("%d is no port: write a number from 1 to 65535, or a name", q.Port.IntVal)
		}
		return uint16(q.Port.IntVal), nil
	}
	var names []string
	for i := range pod.Spec.Containers {
		for _, port := range pod.Spec.Containers[i].Ports {
			if protocolOf(port.Protocol) != q.Protocol {
				continue
			}
			if port.Name == q.Port.StrVal {
				return uint16(port.ContainerPort), nil
			}
			names = append(names, fmt.Sprintf("%s (%d)", port.Name, port.ContainerPort))
		}
	}
	slices.Sort(names)
	return 0, fmt.Errorf("the Pod %s has no %s port %q; it names %s", q.Pod, q.Protocol, q.Port.StrVal, orNone(strings.Join(names, ", ")))
}

func protocolOf(p corev1.Protocol) plan.Protocol {
	if p == "" {
		return plan.TCP
	}
	return plan.Protocol(p)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// HTTPRequest reads a request as a person writes it ("GET /public/a"), with "Name: value" headers.
func HTTPRequest(line, host, version string, headers []string) (*l7.Request, error) {
	method, target, ok := strings.Cut(strings.TrimSpace(line), " ")
	if !ok || method == "" || !strings.HasPrefix(strings.TrimSpace(target), "/") {
		return nil, fmt.Errorf("%q is no request: write a method and a path, such as \"GET /public/a\"", line)
	}
	if version != "1" && version != "2" {
		return nil, fmt.Errorf("%q is no version of HTTP: write 1 or 2", version)
	}
	r := &l7.Request{Protocol: l7.ProtocolHTTP, Version: version, Method: method, Target: strings.TrimSpace(target), Host: host}
	var errs []error
	for _, text := range headers {
		name, value, ok := strings.Cut(text, ":")
		if !ok || strings.TrimSpace(name) == "" {
			errs = append(errs, fmt.Errorf("%q is no header: write \"Name: value\"", text))
			continue
		}
		r.Headers = append(r.Headers, l7.Header{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
	}
	return r, errors.Join(errs...)
}
