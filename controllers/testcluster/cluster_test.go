package testcluster_test

import (
	"os"
	"os/exec"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
)

var cluster *testcluster.Cluster

func TestMain(m *testing.M) {
	os.Exit(testcluster.Main(m, testcluster.Options{}, func(c *testcluster.Cluster) { cluster = c }))
}

func TestClusterServesOurKinds(t *testing.T) {
	namespace := cluster.Namespace(t, "shop", nil)
	policy := &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"}}
	policy.Spec.Ingress = []v1alpha1.IngressRule{{Name: "all"}}
	if err := cluster.Client.Create(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	if policy.Spec.Scope != v1alpha1.ScopeNamedPorts {
		t.Errorf("scope is %q; the definition's default is missing", policy.Spec.Scope)
	}
}

func TestUsersMayNothingByThemselves(t *testing.T) {
	config, err := cluster.User("somebody", "system:authenticated")
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: cluster.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.List(t.Context(), &v1alpha1.L7PolicyList{}); !apierrors.IsForbidden(err) {
		t.Errorf("listing policies: %v, want a refusal", err)
	}
}

// kubectl is there too, and speaks to the cluster.
func TestKubectl(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), cluster.Kubectl, "--kubeconfig", cluster.Kubeconfig, "get", "l7p", "-A").CombinedOutput()
	if err != nil {
		t.Errorf("kubectl get l7p: %v\n%s", err, out)
	}
}
