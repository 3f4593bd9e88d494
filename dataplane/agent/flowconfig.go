package agent

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/flowexport"
	"github.com/meerkat-dev/meerkat/dataplane/flowexport/protocols"
)

// flowConfig says what an export asks of the node with these Pods. It is pure. The export must be without faults (protocols.Faults).
func flowConfig(o *v1alpha1.FlowExport, pods []corev1.Pod) flowexport.Config {
	spec := &o.Spec
	c := flowexport.Config{
		Name:             o.Name,
		Filter:           flowFilter("spec.protocols", spec.Protocols, spec, spec.Direction, spec.PodSelector, pods),
		IncludeDenied:    spec.IncludeDenied == nil || *spec.IncludeDenied,
		LabelKeys:        slices.Sorted(slices.Values(spec.LabelKeys)),
		EnterpriseNumber: uint32(spec.EnterpriseNumber),
	}
	if spec.ActiveTimeout != nil {
		c.ActiveTimeout = spec.ActiveTimeout.Duration
	}
	if spec.IdleTimeout != nil {
		c.IdleTimeout = spec.IdleTimeout.Duration
	}
	if spec.PollInterval != nil {
		c.PollInterval = spec.PollInterval.Duration
	}
	for i := range spec.Collectors {
		from := &spec.Collectors[i]
		to := flowexport.Collector{
			Name: from.Name, Address: from.Address, Transport: flowexport.Transport(from.Transport),
			CABundle: []byte(from.CABundle), ServerName: from.ServerName,
		}
		if to.Transport == "" {
			to.Transport = flowexport.TLS
		}
		narrow := flowFilter(fmt.Sprintf("spec.collectors[%d].protocols", i), from.Protocols, spec, from.Direction, from.PodSelector, pods)
		if narrow.Protocols != nil || narrow.Direction != "" || narrow.Pods != nil {
			to.Filter = &narrow
		}
		c.Collectors = append(c.Collectors, to)
	}
	return c
}

func flowFilter(path string, list []v1alpha1.FlowProtocol, spec *v1alpha1.FlowExportSpec, direction v1alpha1.FlowDirection,
	selector *metav1.LabelSelector, pods []corev1.Pod) flowexport.Filter {
	f := flowexport.Filter{Pods: selectedAddresses(selector, pods)}
	if set := protocols.Resolve(path, list, spec.Groups); !set.All {
		if f.Protocols = set.Numbers; f.Protocols == nil {
			f.Protocols = []uint8{} // none, and not all: no name is known
		}
	}
	switch direction {
	case v1alpha1.FlowsIngress:
		f.Direction = flowexport.Ingress
	case v1alpha1.FlowsEgress:
		f.Direction = flowexport.Egress
	case v1alpha1.FlowsBoth:
	}
	return f
}

// selectedAddresses gives the addresses of the Pods that a selector selects; nil for all.
func selectedAddresses(selector *metav1.LabelSelector, pods []corev1.Pod) map[netip.Addr]struct{} {
	if selector == nil || len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
		return nil
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		s = labels.Nothing()
	}
	selected := map[netip.Addr]struct{}{}
	for i := range pods {
		if pods[i].Spec.HostNetwork || !s.Matches(labels.Set(pods[i].Labels)) {
			continue
		}
		for _, a := range addressesOf(&pods[i]) {
			selected[a] = struct{}{}
		}
	}
	return selected
}
