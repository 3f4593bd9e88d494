package admission_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	space   = "meerkat-system"
	program = "/usr/local/bin/agent"
)

// attempt is a command that somebody runs in a Pod of Meerkat's namespace. There is no node here: what is let through ends in that the
// Pod has no host, and what is not is forbidden.
type attempt struct {
	user, pod, container string
	stdin                bool
	command              []string
	refused              string // part of the message; "" when it is let through
}

func (a attempt) run(t *testing.T) error {
	t.Helper()
	config := rest.CopyConfig(cluster.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: a.user}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c.CoreV1().RESTClient().Post().Resource("pods").Namespace(space).Name(a.pod).SubResource("exec").VersionedParams(&corev1.PodExecOptions{
		Container: a.container, Command: a.command, Stdin: a.stdin, Stdout: true,
	}, scheme.ParameterCodec).Do(t.Context()).Error()
}

// try makes attempts, once the first of them is refused as it is to be: policies take a while until they are in force.
func try(t *testing.T, first attempt, attempts map[string]attempt) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if err := first.run(t); apierrors.IsForbidden(err) && strings.Contains(err.Error(), first.refused) {
			break
		} else if time.Since(began) > 20*time.Second {
			t.Fatalf("the policy is not in force: %v", err)
		}
	}
	for what, a := range attempts {
		err := a.run(t)
		switch {
		case a.refused == "" && (apierrors.IsForbidden(err) || err == nil):
			t.Errorf("%s: want it let through, but: %v", what, err)
		case a.refused != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), a.refused)):
			t.Errorf("%s: want it forbidden because %q, but: %v", what, a.refused, err)
		}
	}
}

// prepare applies the admission policies and roles, and makes Pods in Meerkat's namespace.
func prepare(t *testing.T, roles, pods []string) {
	t.Helper()
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: space}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: "default"}},
	} {
		if err := cluster.Client.Create(t.Context(), o); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	what := []string{"-k=."}
	for _, role := range roles {
		what = append(what, "-f=../rbac/"+role+".yaml")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, w := range what {
		if out, err := exec.CommandContext(ctx, cluster.Kubectl, "--kubeconfig", cluster.Kubeconfig, "apply", w).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, name := range pods {
		create(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: name}, Spec: corev1.PodSpec{
			AutomountServiceAccountToken: new(false), Containers: []corev1.Container{{Name: "agent", Image: "a"}, {Name: "engine", Image: "e"}},
		}})
	}
}

func bind(t *testing.T, where, role, kind string, users ...string) {
	t.Helper()
	b := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: where, GenerateName: "users-"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: role},
	}
	for _, user := range users {
		b.Subjects = append(b.Subjects, rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: user})
	}
	create(t, b)
}
