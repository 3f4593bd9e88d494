package plan

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// portSpec is one element of a rule's ports.
type portSpec struct {
	field    string // spec.ingress[0].ports[0]
	protocol int
	// name is set for a port that each Pod gives a number of its own. Otherwise ports are meant.
	name  string
	ports portRange
	// single says that one number was written, not a range.
	single bool
}

// number is the port of a spec that is single.
func (s portSpec) number() uint16 {
	return uint16(s.ports.lo % portsPerProtocol)
}

// newPortSpecs reads a rule's ports. What is faulty is left out, and names no port.
func newPortSpecs(p *policy, s *ruleSource) []portSpec {
	var specs []portSpec
	for i := range s.ports {
		field := fmt.Sprintf("%s.ports[%d]", s.field, i)
		if spec, ok := newPortSpec(p, field, &s.ports[i]); ok {
			specs = append(specs, spec)
		}
	}
	return specs
}

func newPortSpec(p *policy, field string, port *v1alpha1.PolicyPort) (portSpec, bool) {
	protocol, ok := protocolNumber(string(port.Protocol))
	if !ok {
		p.fault(field+".protocol", "is %q: write TCP, UDP or SCTP", port.Protocol)
		return portSpec{}, false
	}
	spec := portSpec{field: field, protocol: protocol}
	switch {
	case port.Port == nil && port.EndPort == nil:
		spec.ports = allPortsOf(protocol)
		return spec, true
	case port.Port == nil || port.Port.Type == intstr.String && port.EndPort != nil:
		p.fault(field+".endPort", "needs a port that is a number, the first of the range: write one, or leave endPort out")
		return portSpec{}, false
	case port.Port.Type == intstr.String && port.Port.StrVal == "":
		p.fault(field+".port", "is empty: write a number or a name, or leave it out for every port")
		return portSpec{}, false
	case port.Port.Type == intstr.String:
		spec.name = port.Port.StrVal
		return spec, true
	}
	first, last := port.Port.IntVal, port.Port.IntVal
	if port.EndPort != nil {
		last = *port.EndPort
	}
	if first < 1 || last >= portsPerProtocol || last < first {
		p.fault(field, "is %d to %d: ports go from 1 to 65535, and endPort is not below port", first, last)
		return portSpec{}, false
	}
	spec.ports = somePorts(protocol, uint16(first), uint16(last))
	spec.single = first == last
	return spec, true
}
