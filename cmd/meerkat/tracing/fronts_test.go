package tracing

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// twoNodes have a Service of each kind, with an endpoint on either node.
func twoNodes() objects {
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "shop", Name: name} }
	node := func(name, address string) corev1.Node {
		return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}},
		}}
	}
	local, cluster := corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceExternalTrafficPolicyCluster
	inside := corev1.ServiceInternalTrafficPolicyLocal
	service := func(name string, spec corev1.ServiceSpec) corev1.Service {
		for i := range spec.Ports {
			spec.Ports[i].Port = 80
		}
		return corev1.Service{ObjectMeta: named(name), Spec: spec}
	}
	s := &plan.Snapshot{
		Nodes: []corev1.Node{node("node-1", "172.31.0.1"), node("node-2", "172.31.0.2")},
		Services: []corev1.Service{
			service("plain", corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1"}, Ports: make([]corev1.ServicePort, 1)}),
			service("near", corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.2"}, InternalTrafficPolicy: &inside, Ports: make([]corev1.ServicePort, 1)}),
			service("local", corev1.ServiceSpec{ExternalTrafficPolicy: local, ExternalIPs: []string{"198.51.100.1"}, Ports: []corev1.ServicePort{{NodePort: 30001}}}),
			service("wide", corev1.ServiceSpec{ExternalTrafficPolicy: cluster, Ports: []corev1.ServicePort{{NodePort: 30002}}}),
			{ObjectMeta: named("alias"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "plain.shop.svc.cluster.local."}},
			{ObjectMeta: named("alias2"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "alias.shop.svc"}},
			{ObjectMeta: named("loop"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "loop.shop.svc"}},
			{ObjectMeta: named("far"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "www.example"}},
		},
		Pods: []corev1.Pod{{ObjectMeta: named("host"), Spec: corev1.PodSpec{NodeName: "node-2", Containers: []corev1.Container{{
			Ports: []corev1.ContainerPort{{ContainerPort: 8000, HostPort: 18000}},
		}}}, Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.244.2.9"}}}}},
	}
	port, yes := int32(8080), true
	one, two := "node-1", "node-2"
	for i := range s.Services {
		s.EndpointSlices = append(s.EndpointSlices, discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Labels: map[string]string{discoveryv1.LabelServiceName: s.Services[i].Name}},
			Ports:      []discoveryv1.EndpointPort{{Port: &port}},
			Endpoints: []discoveryv1.Endpoint{
				{Addresses: []string{"10.244.1.1"}, NodeName: &one, Conditions: discoveryv1.EndpointConditions{Ready: &yes}},
				{Addresses: []string{"10.244.2.1"}, NodeName: &two, Conditions: discoveryv1.EndpointConditions{Ready: &yes}},
			},
		})
	}
	return objects{s}
}

// Which endpoints a client may get, and which node translates, as kube-proxy has it.
func TestChoices(t *testing.T) {
	const both, one, two = "10.244.1.1:8080 10.244.2.1:8080", "10.244.1.1:8080", "10.244.2.1:8080"
	o := twoNodes()
	for _, c := range []struct{ at, client, want, translates string }{
		{"10.96.0.1:80", "node-1", both, "node-1"},
		{"10.96.0.2:80", "node-1", one, "node-1"},
		{"10.96.0.2:80", "node-2", two, "node-2"},
		{"198.51.100.1:80", "node-2", both, "node-2"},         // from within the cluster, any
		{"172.31.0.1:30001", "", one, "node-1"},               // from outside, those of the node
		{"172.31.0.1:30001", "node-2", one, "node-1"},         // as from another node
		{"172.31.0.1:30001", "node-1", both, "node-1"},        // its own clients get any
		{"172.31.0.2:30002", "", both, "node-2"},              // Cluster
		{"172.31.0.2:18000", "", "10.244.2.9:8000", "node-2"}, // hostPort
		{"172.31.0.1:18000", "", "nothing", ""},
		{"10.96.0.1:81", "node-1", "nothing", ""},
	} {
		f := o.front(netip.MustParseAddrPort(c.at), plan.TCP)
		if f == nil {
			if c.want != "nothing" {
				t.Errorf("there is nothing at %s", c.at)
			}
			continue
		}
		all, translates := o.choices(f, false, c.client)
		var texts []string
		for _, a := range all {
			texts = append(texts, a.String())
		}
		if got := strings.Join(texts, " "); got != c.want || translates != c.translates {
			t.Errorf("%s from %q: %s at %q, not %s at %q", c.at, c.client, got, translates, c.want, c.translates)
		}
	}
	if f := o.front(netip.MustParseAddrPort("172.31.0.1:30001"), plan.UDP); f != nil {
		t.Errorf("UDP reaches %s", f)
	}
}

// A name that stands for another Service leads there; one without end, or outside of the cluster, is an error that says so.
func TestAliases(t *testing.T) {
	o := twoNodes()
	for name, want := range map[string]string{"alias": "10.96.0.1:80", "alias2": "10.96.0.1:80", "loop": "without end", "far": "outside of the cluster"} {
		q := Question{Protocol: plan.TCP, To: scenario.Target{Kind: scenario.ServiceTarget, Object: types.NamespacedName{Namespace: "shop", Name: name}, Port: "80"}}
		all, err := o.targets(&q)
		switch {
		case err != nil && strings.Contains(err.Error(), want):
		case err != nil || !slices.Contains(all, func() netip.AddrPort { a, _ := netip.ParseAddrPort(want); return a }()):
			t.Errorf("%s: %v, %v, not %s", name, all, err, want)
		}
	}
}
