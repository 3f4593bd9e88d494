package l7policy_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/l7policy"
)

// TestAnyOrderConverges applies a policy, its Pod, the Service that it refers to, the Engine and its node's report in different
// orders. The status comes to the same each time.
func TestAnyOrderConverges(t *testing.T) {
	options := l7policy.Options{Interval: 50 * time.Millisecond, ProgressInterval: 50 * time.Millisecond, CountInterval: time.Second, StaleAfter: time.Minute, JoinTime: 100 * time.Millisecond}
	startManager(t, options)
	newNode(t, "node-order", nil)
	const want = "Accepted=True/Accepted Degraded=False/NodesHealthy Programmed=True/Programmed Ready=True/Ready ResolvedRefs=True/ResolvedRefs"
	for _, order := range []string{
		"policy pod service engine report",
		"engine policy pod service report",
		"report engine service pod policy",
		"pod report policy engine service",
		"service pod engine report policy",
		"policy report engine service pod",
	} {
		t.Run(order, func(t *testing.T) {
			g := NewWithT(t)
			namespace := cluster.Namespace(t, "order", nil)
			p := &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web", Generation: 1}}
			for object := range strings.FieldsSeq(order) {
				switch object {
				case "policy":
					p = &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"}}
					p.Spec.PodSelector = metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
					p.Spec.Egress = []v1alpha1.EgressRule{{To: []v1alpha1.EgressPeer{{Service: &v1alpha1.ServicePeer{Name: "payments"}}}}}
					create(t, p)
				case "pod":
					newPod(t, namespace, "web-0", "node-order", "10.0.7.1")
				case "service":
					create(t, &corev1.Service{
						ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "payments"},
						Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "payments"}, Ports: []corev1.ServicePort{{Port: 443}}},
					})
				case "engine":
					create(t, &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.EngineName}})
				case "report":
					report(t, "node-order", applied(p, 0))
				}
				time.Sleep(150 * time.Millisecond) // the manager sees each state in between
			}
			g.Eventually(conditions(p), "10s", "50ms").Should(Equal(want))
		})
	}
}

// conditions returns the policy's conditions as text, sorted by type.
func conditions(p *v1alpha1.L7Policy) func() string {
	return func() string {
		got := &v1alpha1.L7Policy{}
		if err := cluster.Client.Get(context.Background(), client.ObjectKeyFromObject(p), got); err != nil {
			return err.Error()
		}
		var text []string
		for _, kind := range []string{"Accepted", "Degraded", "Programmed", "Ready", "ResolvedRefs", "Shadowed", "Stalled"} {
			for _, c := range got.Status.Conditions {
				if c.Type == kind {
					text = append(text, fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason))
				}
			}
		}
		return strings.Join(text, " ")
	}
}
