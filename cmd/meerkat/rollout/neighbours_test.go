package rollout

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

func TestNeighbours(t *testing.T) {
	s := plan.Snapshot{Pods: []corev1.Pod{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "node-1"}, Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}},
	}}}
	for name, spec := range map[string]string{
		"pages":    `{mode: Audit, podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 8080}], l7: [{http: {methods: [GET]}}]}]}`,
		"orders":   `{mode: Audit, podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 8080}], l7: [{http: {methods: [POST]}}]}]}`,
		"metrics":  `{mode: Audit, podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 9090}]}]}`,
		"partner":  `{mode: Audit, podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 8080}]}]}`,
		"others":   `{mode: Audit, podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 8080}]}]}`,
		"enforced": `{mode: Enforce, podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 7070}], l7: [{http: {}}]}]}`,
		"admin":    `{mode: Audit, podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 7070}], l7: [{http: {}}]}]}`,
	} {
		p := v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
		if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
			t.Fatal(err)
		}
		s.L7Policies = append(s.L7Policies, p)
	}
	for name, want := range map[string]string{
		"pages": "shop/orders shop/partner", "orders": "shop/pages shop/partner", "partner": "shop/orders shop/pages",
		"metrics": "", "others": "", "admin": "", "none": "",
	} {
		if got := strings.Join(Neighbours(s, types.NamespacedName{Namespace: "shop", Name: name}), " "); got != want {
			t.Errorf("with %s enforced, the rules of %q count no more, want %q", name, got, want)
		}
	}
}
