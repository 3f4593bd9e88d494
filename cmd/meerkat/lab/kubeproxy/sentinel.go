package kubeproxy

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The sentinel is a Service of the lab's own, whose port counts what was set: a kube-proxy whose rules have the present number, as the
// Service's port and as the endpoint's, and in both families, has seen everything that was set before.
const (
	sentinelNamespace, sentinelName = "meerkat-lab", "synced"

	sentinelIPv4, sentinelIPv6 = "10.96.255.254", "fd00:10:96::fffe"
	endpointIPv4, endpointIPv6 = "192.0.2.1", "2001:db8::1"
)

// sentinelPort has five digits, so that none is the beginning of another.
func sentinelPort(n int) int32 { return int32(10000 + n%50000) }

func sentinel(n int) (*corev1.Service, []object) {
	port, tcp, name, ready := sentinelPort(n), corev1.ProtocolTCP, "", true
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: sentinelNamespace, Name: sentinelName},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: sentinelIPv4, ClusterIPs: []string{sentinelIPv4, sentinelIPv6},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, Ports: []corev1.ServicePort{{Protocol: tcp, Port: port}},
		},
	}
	slices := []object{}
	for family, address := range map[discoveryv1.AddressType]string{discoveryv1.AddressTypeIPv4: endpointIPv4, discoveryv1.AddressTypeIPv6: endpointIPv6} {
		slices = append(slices, &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: sentinelNamespace, Name: sentinelName + "-" + strings.ToLower(string(family)),
				Labels: map[string]string{discoveryv1.LabelServiceName: sentinelName},
			},
			AddressType: family, Ports: []discoveryv1.EndpointPort{{Name: &name, Protocol: &tcp, Port: &port}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		})
	}
	return service, slices
}

// shown are patterns of what rules have once the sentinel's number is in them, by the command that prints the rules.
func (m Mode) shown(n int) map[string][]*regexp.Regexp {
	port := fmt.Sprint(sentinelPort(n))
	pattern := func(format string, address string) *regexp.Regexp {
		return regexp.MustCompile(fmt.Sprintf(format, regexp.QuoteMeta(address), port))
	}
	if m == IPTables {
		const to, from = `--to-destination \[?%s\]?:%s`, `-d %s/.* --dport %s `
		return map[string][]*regexp.Regexp{
			"iptables-save -t nat":  {pattern(from, sentinelIPv4), pattern(to, endpointIPv4)},
			"ip6tables-save -t nat": {pattern(from, sentinelIPv6), pattern(to, endpointIPv6)},
		}
	}
	const to, from = `\[?%s\]?(:| \. )%s\b`, `%s \. tcp \. %s `
	return map[string][]*regexp.Regexp{
		"nft list table ip kube-proxy":  {pattern(from, sentinelIPv4), pattern(to, endpointIPv4)},
		"nft list table ip6 kube-proxy": {pattern(from, sentinelIPv6), pattern(to, endpointIPv6)},
	}
}

func gvk(k *kind) schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(k.groupVersion, k.name)
}
