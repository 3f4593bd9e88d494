package alerts

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// servicesOf finds the Services of which the node's inspected Pods are endpoints. Others cannot be the server's side of an edge here,
// and a large cluster has many.
func servicesOf(p *plan.NodePlan, all []discoveryv1.EndpointSlice) map[endpoint][]string {
	inspected := map[string]bool{}
	for i := range p.Profiles {
		for _, address := range p.Profiles[i].Home {
			inspected[address] = true
		}
	}
	serves := map[endpoint][]string{}
	if len(inspected) == 0 {
		return serves
	}
	for i := range all {
		slice := &all[i]
		service := slice.Labels[discoveryv1.LabelServiceName]
		if service == "" {
			continue
		}
		for j := range slice.Endpoints {
			for _, text := range slice.Endpoints[j].Addresses {
				address, err := netip.ParseAddr(text)
				if err != nil || !inspected[address.String()] {
					continue
				}
				for _, port := range slice.Ports {
					addService(serves, address, port, slice.Namespace+"/"+service)
				}
			}
		}
	}
	for _, names := range serves {
		slices.Sort(names)
	}
	return serves
}

func addService(serves map[endpoint][]string, address netip.Addr, port discoveryv1.EndpointPort, service string) {
	if port.Port == nil {
		return
	}
	at := endpoint{netip.AddrPortFrom(address, uint16(*port.Port)), string(corev1.ProtocolTCP)}
	if port.Protocol != nil {
		at.protocol = string(*port.Protocol)
	}
	if !slices.Contains(serves[at], service) {
		serves[at] = append(serves[at], service)
	}
}
