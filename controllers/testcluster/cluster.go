package testcluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Options say how a cluster differs from the usual one.
type Options struct {
	// APIServer are further flags of kube-apiserver, by name without dashes. Example: "authorization-mode": {"RBAC"}, which is the
	// default.
	APIServer map[string][]string
	// Webhooks are installed, and served by the test at the address that comes back in Cluster.Webhooks.
	Webhooks envtest.WebhookInstallOptions
	// WithoutDefinitions leaves Meerkat's resource definitions out.
	WithoutDefinitions bool
}

// Cluster is a running API server.
type Cluster struct {
	// Config is an administrator's.
	Config *rest.Config
	// Client is an administrator's, without a cache. Its scheme is Scheme.
	Client client.WithWatch
	// Scheme knows Kubernetes' own kinds and Meerkat's.
	Scheme *runtime.Scheme
	// Kubeconfig is the path of an administrator's kubeconfig.
	Kubeconfig string
	// Kubectl is the path of a kubectl of the API server's version.
	Kubectl string
	// Webhooks tells where Options.Webhooks are to be served, and with which certificate.
	Webhooks envtest.WebhookInstallOptions

	env       *envtest.Environment
	guard     *guard
	directory string
}

// Main runs a package's tests with a cluster and returns the exit status. use is called before the first test. The cluster is
// stopped at the end, and also when the process is killed.
func Main(m *testing.M, o Options, use func(*Cluster)) int {
	c, err := Start(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	use(c)
	status := m.Run()
	if err := c.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the test cluster:", err)
		return max(status, 1)
	}
	return status
}

// Start starts a cluster, in some five seconds. Stop is to be called in the end. Controllers of the test log errors to standard
// error, unless the test has said otherwise.
func Start(o Options) (*Cluster, error) {
	root, err := repository()
	if err != nil {
		return nil, err
	}
	programs, err := findPrograms(root)
	if err != nil {
		return nil, err
	}
	directory, err := os.MkdirTemp("", "meerkat-testcluster-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		Kubectl: filepath.Join(programs, "kubectl"), directory: directory,
		env: &envtest.Environment{
			WebhookInstallOptions:    o.Webhooks,
			ControlPlaneStartTimeout: time.Minute,
			ControlPlaneStopTimeout:  time.Minute,
		},
	}
	if !o.WithoutDefinitions {
		c.env.CRDDirectoryPaths, c.env.ErrorIfCRDPathMissing = []string{filepath.Join(root, "config", "crd", "bases")}, true
	}
	server := c.env.ControlPlane.GetAPIServer()
	for name, values := range o.APIServer {
		server.Configure().Set(name, values...)
	}
	if err := c.start(programs); err != nil {
		_ = c.Stop()
		return nil, fmt.Errorf("starting the test cluster with the programs in %s: %w", programs, err)
	}
	return c, nil
}

func (c *Cluster) start(programs string) (err error) {
	log.SetLogger(zap.New(zap.Level(zapcore.ErrorLevel), zap.WriteTo(os.Stderr)))
	if c.guard, err = newGuard(c.directory, &c.env.ControlPlane, programs); err != nil {
		return err
	}
	if c.Config, err = c.env.Start(); err != nil {
		return err
	}
	// Tests ask as fast as they like.
	c.Config.QPS = -1
	c.Scheme = runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(c.Scheme); err != nil {
			return err
		}
	}
	if c.Client, err = client.NewWithWatch(c.Config, client.Options{Scheme: c.Scheme}); err != nil {
		return err
	}
	c.Webhooks = c.env.WebhookInstallOptions
	c.Kubeconfig = filepath.Join(c.directory, "kubeconfig")
	return os.WriteFile(c.Kubeconfig, c.env.KubeConfig, 0o600)
}

// Stop stops the API server and then etcd: an API server that loses its etcd first takes a minute to stop.
func (c *Cluster) Stop() error {
	err := c.env.Stop()
	if c.guard != nil {
		c.guard.dismiss()
	}
	if removed := os.RemoveAll(c.directory); err == nil {
		err = removed
	}
	return err
}

// User returns the configuration of a user with a client certificate, for tests of what others than administrators may do.
func (c *Cluster) User(name string, groups ...string) (*rest.Config, error) {
	user, err := c.env.AddUser(envtest.User{Name: name, Groups: groups}, c.Config)
	if err != nil {
		return nil, err
	}
	return user.Config(), nil
}

// Namespace makes a namespace with a name of its own that begins with prefix, and returns the name. The test's end deletes it,
// without waiting: nobody empties it, as the cluster has no controller manager.
func (c *Cluster) Namespace(t testing.TB, prefix string, labels map[string]string) string {
	t.Helper()
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix + "-", Labels: labels}}
	if err := c.Client.Create(t.Context(), n); err != nil {
		t.Fatalf("making a namespace: %v", err)
	}
	t.Cleanup(func() { _ = c.Client.Delete(context.Background(), n) })
	return n.Name
}
