package rights_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/meerkat-dev/meerkat/controllers/testcluster"
	"github.com/meerkat-dev/meerkat/dataplane/ownthread"
)

const namespace = "meerkat-system"

// Accounts of dist/install.yaml.
const (
	manager = "meerkat-manager"
	agent   = "meerkat-agent"
	vswitch = "meerkat-switch"
)

var (
	cluster   *testcluster.Cluster
	directory string // of the audit log and the programs
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if directory, err = os.MkdirTemp("", "meerkat-rights-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(directory)
	policy := filepath.Join(directory, "audit.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	log.SetLogger(logr.Discard())
	options := testcluster.Options{APIServer: map[string][]string{"audit-policy-file": {policy}, "audit-log-path": {auditLog()}}}
	return testcluster.Main(m, options, func(c *testcluster.Cluster) { cluster = c })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// install applies dist/install.yaml but for the kinds, which are there, and for what except names.
func install(t *testing.T, except ...string) {
	t.Helper()
	f, err := os.Open("../../dist/install.yaml")
	must(t, err)
	defer f.Close()
	documents := yaml.NewYAMLOrJSONDecoder(f, 1<<16)
	for {
		object := &unstructured.Unstructured{}
		err := documents.Decode(object)
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		if len(object.Object) == 0 || object.GetKind() == "CustomResourceDefinition" || contains(except, object.GetKind()) {
			continue
		}
		applied := client.ApplyConfigurationFromUnstructured(object)
		must(t, cluster.Client.Apply(t.Context(), applied, client.FieldOwner("test"), client.ForceOwnership))
	}
}

func contains(all []string, one string) bool {
	for _, s := range all {
		if strings.HasSuffix(one, s) {
			return true
		}
	}
	return false
}

// identity is how a Pod of an account on n1 reaches the API server: with a token that is bound to the Pod, and so to the node.
func identity(t *testing.T, account, pod string) *rest.Config {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: namespace, Labels: map[string]string{
			"app.kubernetes.io/name": "meerkat", "app.kubernetes.io/component": map[string]string{agent: "node", manager: "manager"}[account],
		}},
		Spec: corev1.PodSpec{
			ServiceAccountName: account, NodeName: "n1", Containers: []corev1.Container{{Name: "agent", Image: "none"}},
		},
	}
	must(t, cluster.Client.Create(t.Context(), p))
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "agent", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	}}
	must(t, cluster.Client.Status().Update(t.Context(), p))
	clients, err := kubernetes.NewForConfig(cluster.Config)
	must(t, err)
	token, err := clients.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), account, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod, UID: p.UID},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	c := rest.AnonymousClientConfig(cluster.Config)
	c.BearerToken = token.Status.Token
	return c
}

// kubeconfig writes a configuration for a program.
func kubeconfig(t *testing.T, c *rest.Config) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: c.Host, CertificateAuthorityData: c.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {Token: c.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, path))
	return path
}

// start builds a program of cmd and runs it until the test ends, or stop is called. What it writes is shown when the test fails.
func start(t *testing.T, name string, env []string, args ...string) (stop func()) {
	t.Helper()
	program := filepath.Join(directory, name)
	out, err := exec.Command("go", "build", "-o", program, "../../cmd/"+name).CombinedOutput()
	if err != nil {
		t.Fatalf("building cmd/%s: %v\n%s", name, err, out)
	}
	var said bytes.Buffer
	c := exec.CommandContext(context.Background(), program, args...)
	c.Env = append(os.Environ(), env...)
	c.Stdout, c.Stderr = &said, &said
	must(t, ownthread.Start(c))
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = c.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%s ended with: %v", name, err)
			}
		case <-time.After(30 * time.Second):
			_ = c.Process.Kill()
			t.Errorf("%s does not end when it is told to", name)
		}
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, said.String())
		}
	})
	return stop
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// eventually waits until f tells nothing that is missing.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within 30 s: %v", what, err)
}
