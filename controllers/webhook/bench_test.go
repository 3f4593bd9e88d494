package webhook_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/webhook"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// BenchmarkFaultsAmong judges a policy in a namespace with 100 policies, among 5,000 Pods of which 500 are the namespace's: the API
// server waits five seconds at most.
func BenchmarkFaultsAmong(b *testing.B) {
	var s plan.Snapshot
	for i := range 5000 {
		namespace := fmt.Sprintf("ns-%d", i%10)
		ip := fmt.Sprintf("10.0.%d.%d", i/250, i%250)
		s.Pods = append(s.Pods, corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("pod-%d", i), Labels: map[string]string{"app": fmt.Sprintf("app-%d", i/10%50)}},
			Spec:       corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", i%100), Containers: []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}},
		})
	}
	newPolicy := func(i int) *v1alpha1.L7Policy {
		p := &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns-0", Name: fmt.Sprintf("policy-%d", i)}}
		p.Spec.PodSelector.MatchLabels = map[string]string{"app": fmt.Sprintf("app-%d", i%50)}
		p.Spec.Ingress = []v1alpha1.IngressRule{{
			Name: "pages",
			From: []v1alpha1.Peer{{NamespaceSelector: &metav1.LabelSelector{}, PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprintf("app-%d", (i+1)%50)}}}},
			L7:   []v1alpha1.L7Match{{HTTP: &v1alpha1.HTTPMatch{Methods: []string{"GET"}, Path: &v1alpha1.PathMatch{Prefix: new(fmt.Sprintf("/%d/", i))}}}},
		}}
		return p
	}
	for i := range 100 {
		s.L7Policies = append(s.L7Policies, *newPolicy(i))
	}
	policy := newPolicy(100)
	for b.Loop() {
		if errs, _ := webhook.FaultsAmong(s, policy); len(errs) > 0 {
			b.Fatal(errs)
		}
	}
}
