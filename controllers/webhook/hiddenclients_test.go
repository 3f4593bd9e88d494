package webhook_test

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestHiddenClientsAsNodesJoin applies a policy with an ipBlock, whose Pods are reached by a node port, while the cluster has one node,
// two, and one again. A connection from outside that comes in by the Pod's own node is judged by its client's address: a node without
// others hides nobody.
func TestHiddenClientsAsNodesJoin(t *testing.T) {
	if out, err := kubectl("apply", "-f", "hidden-objects.yaml"); err != nil {
		t.Fatal(out)
	}
	hasAddress(t, "hidden", "web-0")
	wanted := func(warns bool) func() string {
		return func() string {
			out, err := kubectl("apply", "--dry-run=server", "-f", "hidden.yaml")
			if err != nil || strings.Contains(out, "Warning: ") != warns ||
				strings.Contains(out, "partners: spec.ingress[0] (pages) has an ipBlock peer, and clients outside of the cluster reach its Pods through hidden/web (NodePort)") != warns {
				return "kubectl prints: " + out
			}
			return ""
		}
	}
	node := func(name string) *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }
	join := func(n *corev1.Node) {
		if err := cluster.Client.Create(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	one, two := node("hidden-1"), node("hidden-2")
	eventually(t, "warned of while no node is known", wanted(true))
	join(one)
	defer func() {
		if err := cluster.Client.Delete(context.Background(), one); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, "not warned of with one node", wanted(false))
	join(two)
	eventually(t, "warned of with two nodes", wanted(true))
	if err := cluster.Client.Delete(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not warned of with one node again", wanted(false))
}
