package plan_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// largeCluster has 5,000 Pods, 100 of them local, and 500 policies, of which perPod select each local Pod. Each policy allows
// some 500 of the Pods, by label and in all namespaces.
func largeCluster(perPod int) plan.Snapshot {
	const pods, local, policies, namespaces = 5000, 100, 500, 20
	s := plan.Snapshot{Node: "n1"}
	for i := range namespaces {
		s.Namespaces = append(s.Namespaces, corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("ns", i)}})
	}
	for i := range pods {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint("ns", i%namespaces), Name: fmt.Sprint("pod", i),
			UID: "u", Labels: map[string]string{"tier": fmt.Sprint("t", i%10), "app": fmt.Sprint("app", i%200), "hash": fmt.Sprint(i)}}}
		p.Spec.NodeName = fmt.Sprint("n", 2+i%50)
		if i < local {
			p.Spec.NodeName = "n1"
			p.Namespace = "ns0"
			for k := range perPod {
				p.Labels[fmt.Sprint("policy", (i*perPod+k)%policies)] = ""
			}
		}
		p.Status.Phase = corev1.PodRunning
		p.Status.PodIPs = []corev1.PodIP{{IP: fmt.Sprintf("10.1.%d.%d", i/250, i%250)}, {IP: fmt.Sprintf("fd00::%x", i)}}
		p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: int32(8000 + i%3)}}}}
		s.Pods = append(s.Pods, p)
	}
	for i := range policies {
		peers := v1alpha1.Peer{NamespaceSelector: &metav1.LabelSelector{},
			PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": fmt.Sprint("t", i%10)}}}
		l7 := []v1alpha1.L7Match{{HTTP: &v1alpha1.HTTPMatch{Methods: []string{"GET"}, Path: &v1alpha1.PathMatch{Prefix: new(fmt.Sprint("/", i))}}}}
		p := v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns0", Name: fmt.Sprint("policy", i)}}
		p.Spec.PodSelector = metav1.LabelSelector{MatchLabels: map[string]string{fmt.Sprint("policy", i): ""}}
		p.Spec.Ingress = []v1alpha1.IngressRule{
			{Name: "pods", From: []v1alpha1.Peer{peers}, Ports: []v1alpha1.PolicyPort{{Port: new(intstr.FromString("http"))}}, L7: l7},
			{Name: "block", From: []v1alpha1.Peer{{IPBlock: &v1alpha1.IPBlock{CIDR: fmt.Sprintf("10.%d.0.0/16", 1+i%100), Except: []string{fmt.Sprintf("10.%d.7.0/24", 1+i%100)}}}},
				Ports: []v1alpha1.PolicyPort{{Port: new(intstr.FromInt32(int32(9000 + i)))}}},
		}
		p.Spec.Egress = []v1alpha1.EgressRule{
			{Name: "out", To: []v1alpha1.EgressPeer{{Peer: peers}}, Ports: []v1alpha1.PolicyPort{{Port: new(intstr.FromString("http"))}}, L7: l7},
		}
		s.L7Policies = append(s.L7Policies, p)
	}
	return s
}

func BenchmarkCompile(b *testing.B) {
	for _, perPod := range []int{5, 50} {
		b.Run(fmt.Sprintf("500policies_5000pods_100local_%dperPod", perPod), func(b *testing.B) {
			s := largeCluster(perPod)
			b.ReportAllocs()
			for b.Loop() {
				p, _ := plan.Compile(s)
				if len(p.Edges) != 100 {
					b.Fatalf("%d edges", len(p.Edges))
				}
			}
		})
	}
}
