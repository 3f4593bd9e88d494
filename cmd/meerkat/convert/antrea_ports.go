package convert

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// overlap tells whether two lists of ports may have one in common; an empty one is all ports, and a name may be any.
func overlap(a, b []v1alpha1.PolicyPort) bool {
	if len(a) == 0 || len(b) == 0 {
		return true
	}
	for i := range a {
		for j := range b {
			if a[i].Protocol == b[j].Protocol && meet(&a[i], &b[j]) {
				return true
			}
		}
	}
	return false
}

// covers tells whether all ports of b are among those of a.
func covers(a, b []v1alpha1.PolicyPort) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == 0
	}
	return !slices.ContainsFunc(b, func(p v1alpha1.PolicyPort) bool {
		return !slices.ContainsFunc(a, func(q v1alpha1.PolicyPort) bool { return equality.Semantic.DeepEqual(p, q) })
	})
}

func meet(a, b *v1alpha1.PolicyPort) bool {
	if a.Port == nil || b.Port == nil {
		return true
	}
	if a.Port.Type == intstr.String || b.Port.Type == intstr.String {
		return a.Port.Type != b.Port.Type || a.Port.StrVal == b.Port.StrVal
	}
	last := func(p *v1alpha1.PolicyPort) int32 {
		if p.EndPort != nil {
			return *p.EndPort
		}
		return p.Port.IntVal
	}
	return a.Port.IntVal <= last(b) && b.Port.IntVal <= last(a)
}

// antreaPorts converts ports; false when one of them cannot be said.
func (c *converter) antreaPorts(path string, ports []antreaPort) (all []v1alpha1.PolicyPort, ok bool) {
	for i, p := range ports {
		if p.SourcePort != nil || p.SourceEndPort != nil {
			c.add(Stricter, fmt.Sprintf("%s.ports[%d]", path, i), "the rule is left out: an L7Policy does not look at source ports")
			return nil, false
		}
		protocol := v1alpha1.Protocol(strings.ToUpper(p.Protocol))
		if protocol == "" {
			protocol = v1alpha1.ProtocolTCP
		}
		all = append(all, v1alpha1.PolicyPort{Protocol: protocol, Port: p.Port, EndPort: p.EndPort})
	}
	return all, true
}
