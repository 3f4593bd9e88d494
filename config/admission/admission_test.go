// Package admission tests the ValidatingAdmissionPolicy on a real API server, with tokens as agents have them.
package admission_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
)

const (
	namespace = "meerkat-system"
	account   = "meerkat-agent"
)

var cluster *testcluster.Cluster

func TestMain(m *testing.M) {
	os.Exit(testcluster.Main(m, testcluster.Options{}, func(c *testcluster.Cluster) { cluster = c }))
}

// TestAgentsWriteTheirOwnReport does what agents do with the tokens of two nodes' agents, and with one that tells no node.
func TestAgentsWriteTheirOwnReport(t *testing.T) {
	install(t)
	one, two := agent(t, "node-1"), agent(t, "node-2")
	unbound := withToken(t, token(t, nil))
	eventuallyRefused(t, two)

	for _, step := range []struct {
		what    string
		as      client.Client
		do      func(client.Client) error
		refused string // part of the message
	}{
		{"create another's", two, createReport("node-1"), "the agent of the node node-2 may write the NodeInspection node-2, and not node-1"},
		{"create another's by server-side apply", two, applyReport("node-1", false), "and not node-1"},
		{"create without a node", unbound, createReport("node-1"), "an agent's token must be bound to its Pod"},
		{"create its own by server-side apply", one, applyReport("node-1", false), ""},
		{"create its own", two, createReport("node-2"), ""},
		{"report by server-side apply at once", two, applyReport("node-2", true), ""},
		{"report by server-side apply", one, applyReport("node-1", true), ""},
		{"report for another by server-side apply", two, applyReport("node-1", true), "and not node-1"},
		{"update its own", one, updateReport("node-1", false), ""},
		{"update its own status", one, updateReport("node-1", true), ""},
		{"update another's", two, updateReport("node-1", false), "and not node-1"},
		{"update another's status", two, updateReport("node-1", true), "and not node-1"},
		{"update a status without a node", unbound, updateReport("node-1", true), "must be bound to its Pod"},
		{"delete another's", two, deleteReport("node-1"), "and not node-1"},
		{"delete all", two, deleteAll, "and not node-1"},
		{"delete its own", one, deleteReport("node-1"), ""},
		{"update as an administrator", cluster.Client, updateReport("node-2", true), ""},
		{"delete as an administrator", cluster.Client, deleteReport("node-2"), ""},
	} {
		err := step.do(step.as)
		switch {
		case step.refused == "" && err != nil:
			t.Errorf("%s: %v", step.what, err)
		case step.refused != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), step.refused)):
			t.Errorf("%s: want it forbidden because %q, but: %v", step.what, step.refused, err)
		}
	}
}

func createReport(name string) func(client.Client) error {
	return func(c client.Client) error {
		return c.Create(context.Background(), &v1alpha1.NodeInspection{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
}

func applyReport(name string, status bool) func(client.Client) error {
	return func(c client.Client) error {
		u := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": v1alpha1.GroupVersion.String(), "kind": "NodeInspection", "metadata": map[string]any{"name": name},
		}}
		configuration := client.ApplyConfigurationFromUnstructured(u)
		if !status {
			return c.Apply(context.Background(), configuration, client.FieldOwner("meerkat-agent"), client.ForceOwnership)
		}
		u.Object["status"] = map[string]any{"agentVersion": "v1", "governedPods": int64(1)}
		return c.Status().Apply(context.Background(), configuration, client.FieldOwner("meerkat-agent"), client.ForceOwnership)
	}
}

func updateReport(name string, status bool) func(client.Client) error {
	return func(c client.Client) error {
		report := &v1alpha1.NodeInspection{}
		if err := c.Get(context.Background(), client.ObjectKey{Name: name}, report); err != nil {
			return err
		}
		if status {
			report.Status.Reported = new(metav1.Now())
			return c.Status().Update(context.Background(), report)
		}
		report.Labels = map[string]string{"written": "yes"}
		return c.Update(context.Background(), report)
	}
}

func deleteReport(name string) func(client.Client) error {
	return func(c client.Client) error {
		return c.Delete(context.Background(), &v1alpha1.NodeInspection{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
}

func deleteAll(c client.Client) error {
	return c.DeleteAllOf(context.Background(), &v1alpha1.NodeInspection{})
}

// install applies the policy, and gives agents more than the rights that they have.
func install(t *testing.T) {
	t.Helper()
	create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}})
	create(t, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: account},
		Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"nodeinspections", "nodeinspections/status"}, Verbs: []string{"*"},
		}},
	})
	create(t, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: account},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: account},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: account}},
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, cluster.Kubectl, "--kubeconfig", cluster.Kubeconfig, "apply", "-k", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// agent is a client with a token that is bound to a Pod on the node.
func agent(t *testing.T, node string) client.Client {
	t.Helper()
	create(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}})
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "meerkat-" + node},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: account, AutomountServiceAccountToken: new(false),
			Containers: []corev1.Container{{Name: "agent", Image: "agent"}},
		},
	}
	create(t, pod)
	return withToken(t, token(t, pod))
}

// token is one of the agents' service account, bound to the Pod unless there is none.
func token(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	}
	who := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}
	if err := cluster.Client.SubResource("token").Create(t.Context(), who, request); err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}

func withToken(t *testing.T, token string) client.Client {
	t.Helper()
	config := rest.AnonymousClientConfig(cluster.Config)
	config.BearerToken = token
	c, err := client.New(config, client.Options{Scheme: cluster.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eventuallyRefused waits until the API server has compiled the policy.
func eventuallyRefused(t *testing.T, two client.Client) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		probe := &v1alpha1.NodeInspection{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
		err := two.Create(t.Context(), probe, client.DryRunAll)
		if apierrors.IsForbidden(err) && strings.Contains(err.Error(), "may write") {
			return
		}
		if time.Since(began) > 20*time.Second {
			t.Fatalf("the policy is not in force: %v", err)
		}
	}
}

func create(t *testing.T, object client.Object) {
	t.Helper()
	if err := cluster.Client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}
