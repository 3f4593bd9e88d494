package integration

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// TestServicePortOnBothNetworks wants the policies of the scenario underlay that name a Service's port where the Pods' is wanted to be told
// so, with both ports, and the others not.
func TestServicePortOnBothNetworks(t *testing.T) {
	o, err := manifests.Load("../scenarios/underlay/objects.yaml", "../scenarios/underlay/policies.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i := range o.Pods { // as the kubelet would say; only Pods that live are looked at
		o.Pods[i].Status.PodIPs = []corev1.PodIP{{IP: fmt.Sprintf("10.0.0.%d", i+1)}}
	}
	found := plan.Check(plan.Snapshot{Namespaces: o.Namespaces, Pods: o.Pods, Services: o.Services, L7Policies: o.L7Policies})
	told := 0
	for _, p := range found.Policies {
		c := meta.FindStatusCondition(p.Conditions, v1alpha1.ConditionResolvedRefs)
		mistaken := strings.HasPrefix(p.Policy.Name, "mistaken-")
		switch {
		case c == nil:
			t.Errorf("%s has no condition ResolvedRefs", p.Policy)
		case !mistaken && c.Status != metav1.ConditionTrue:
			t.Errorf("%s: %s: %s", p.Policy, c.Reason, c.Message)
		case mistaken && (c.Status != metav1.ConditionFalse || c.Reason != plan.ReasonServicePortForPodPort ||
			!strings.Contains(c.Message, "is 80, ") || !strings.Contains(c.Message, "8080")):
			t.Errorf("%s: it should name ports 80 and 8080: %s %s: %s", p.Policy, c.Status, c.Reason, c.Message)
		case mistaken:
			told++
		}
	}
	if told != 2 {
		t.Errorf("%d policies were told, and not one for each network", told)
	}
}
