package manifests

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The checks of this file are for the kinds that are not ours: not all that an API server would refuse, but what would mislead
// a reader of the objects.

func checkNode(node *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	for i, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP || address.Type == corev1.NodeExternalIP {
			errs = append(errs, checkAddress(field.NewPath("status", "addresses").Index(i).Child("address"), address.Address)...)
		}
	}
	return errs
}

func checkPod(pod *corev1.Pod) field.ErrorList {
	var errs field.ErrorList
	for i, ip := range pod.Status.PodIPs {
		errs = append(errs, checkAddress(field.NewPath("status", "podIPs").Index(i).Child("ip"), ip.IP)...)
	}
	if ips := pod.Status.PodIPs; len(ips) > 0 && ips[0].IP != pod.Status.PodIP {
		errs = append(errs, invalid(field.NewPath("status", "podIP"), pod.Status.PodIP, "is not the first of podIPs (%s); make them the same, or leave one out", bare(ips[0].IP)))
	}
	path := field.NewPath("spec")
	errs = append(errs, checkContainerPorts(path.Child("initContainers"), pod.Spec.InitContainers)...)
	return append(errs, checkContainerPorts(path.Child("containers"), pod.Spec.Containers)...)
}

func checkContainerPorts(path *field.Path, containers []corev1.Container) field.ErrorList {
	var errs field.ErrorList
	for i, container := range containers {
		for j, port := range container.Ports {
			at := path.Index(i).Child("ports").Index(j)
			errs = append(errs, checkPortNumber(at.Child("containerPort"), port.ContainerPort)...)
			errs = append(errs, checkTransport(at.Child("protocol"), port.Protocol)...)
			if port.Name != "" {
				errs = append(errs, checkPortName(at.Child("name"), port.Name)...)
			}
		}
	}
	return errs
}

func checkService(service *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	switch service.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName:
	default:
		errs = append(errs, invalid(path.Child("type"), string(service.Spec.Type), "is no type of Service; write ClusterIP, NodePort, LoadBalancer or ExternalName"))
	}
	for i, ip := range service.Spec.ClusterIPs {
		if ip != corev1.ClusterIPNone {
			errs = append(errs, checkAddress(path.Child("clusterIPs").Index(i), ip)...)
		}
	}
	if ips := service.Spec.ClusterIPs; len(ips) > 0 && ips[0] != service.Spec.ClusterIP {
		errs = append(errs, invalid(path.Child("clusterIP"), service.Spec.ClusterIP, "is not the first of clusterIPs (%s); make them the same, or leave one out", bare(ips[0])))
	}
	return append(errs, checkServicePorts(path.Child("ports"), service.Spec.Ports)...)
}

func checkServicePorts(path *field.Path, ports []corev1.ServicePort) field.ErrorList {
	var errs field.ErrorList
	names := map[string]int{}
	for i, port := range ports {
		at := path.Index(i)
		errs = append(errs, checkPortNumber(at.Child("port"), port.Port)...)
		errs = append(errs, checkTransport(at.Child("protocol"), port.Protocol)...)
		if first, ok := names[port.Name]; ok && port.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), "is required, since the Service has several ports; name each of them"))
		} else if ok {
			errs = append(errs, invalid(at.Child("name"), port.Name, "is also the name of ports[%d]; rename one of them", first))
		}
		names[port.Name] = i
	}
	return errs
}

func checkEndpointSlice(slice *discoveryv1.EndpointSlice) field.ErrorList {
	var errs field.ErrorList
	if slice.Labels[discoveryv1.LabelServiceName] == "" {
		errs = append(errs, field.Required(field.NewPath("metadata", "labels"),
			fmt.Sprintf("the label %s is missing, so the slice belongs to no Service; add it, with the Service's name", discoveryv1.LabelServiceName)))
	}
	switch slice.AddressType {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
		errs = append(errs, checkEndpoints(slice)...)
	case discoveryv1.AddressTypeFQDN:
	default:
		errs = append(errs, invalid(field.NewPath("addressType"), string(slice.AddressType), "is no type of address; write IPv4 or IPv6"))
	}
	for i, port := range slice.Ports {
		at := field.NewPath("ports").Index(i)
		if port.Port != nil {
			errs = append(errs, checkPortNumber(at.Child("port"), *port.Port)...)
		}
		errs = append(errs, checkTransport(at.Child("protocol"), *port.Protocol)...)
	}
	return errs
}

func checkEndpoints(slice *discoveryv1.EndpointSlice) field.ErrorList {
	var errs field.ErrorList
	for i, endpoint := range slice.Endpoints {
		at := field.NewPath("endpoints").Index(i).Child("addresses")
		if len(endpoint.Addresses) == 0 {
			errs = append(errs, field.Required(at, "is required; an endpoint without an address serves nothing"))
		}
		for j, text := range endpoint.Addresses {
			if bad := checkAddress(at.Index(j), text); len(bad) > 0 {
				errs = append(errs, bad...)
				continue
			}
			if address := netip.MustParseAddr(text); address.Is4() != (slice.AddressType == discoveryv1.AddressTypeIPv4) {
				errs = append(errs, invalid(at.Index(j), text, "is not of the slice's addressType, %s; put it in a slice of its own", slice.AddressType))
			}
		}
	}
	return errs
}

func checkAddress(path *field.Path, text string) field.ErrorList {
	address, err := netip.ParseAddr(text)
	switch {
	case err != nil || address.Zone() != "":
		return field.ErrorList{invalid(path, text, "is not an IP address; write one such as 10.0.0.7 or 2001:db8::7")}
	case address.Is4In6():
		return field.ErrorList{invalid(path, text, "is an IPv4 address in IPv6 form; write %s", address.Unmap())}
	default:
		return nil
	}
}

func checkPortNumber(path *field.Path, port int32) field.ErrorList {
	if port < 1 || port > 65535 {
		return field.ErrorList{invalid(path, port, "is not a port's number; write one from 1 to 65535")}
	}
	return nil
}

func checkTransport(path *field.Path, protocol corev1.Protocol) field.ErrorList {
	switch protocol {
	case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
		return nil
	default:
		return field.ErrorList{invalid(path, string(protocol), "is no transport protocol; write TCP, UDP or SCTP")}
	}
}

func checkPortName(path *field.Path, name string) field.ErrorList {
	if len(validation.IsValidPortName(name)) == 0 {
		return nil
	}
	return field.ErrorList{invalid(path, name, "is not a port's name; write at most 15 lower-case letters, digits and '-', at least one of them a letter")}
}
