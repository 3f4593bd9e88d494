package webhook_test

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/meerkat-dev/meerkat/controllers/testcluster"
	"github.com/meerkat-dev/meerkat/controllers/webhook"
)

const managerNamespace = "meerkat-system"

var (
	update = flag.Bool("update", false, "rewrite the golden files")

	cluster  *testcluster.Cluster
	replicas []*replica
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) (status int) {
	c, err := testcluster.Start(testcluster.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cluster = c
	defer func() {
		for _, r := range replicas {
			r.stop()
		}
		if err := c.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the test cluster:", err)
			status = 1
		}
	}()
	if err := install(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// install applies config/webhook and starts two managers that have no more rights than it gives, and those to read what policies
// refer to. The API server finds the first of them by address, since no one here resolves Services.
func install(ctx context.Context) error {
	if err := cluster.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: managerNamespace}}); err != nil {
		return err
	}
	if out, err := kubectl("apply", "-k", "../../config/webhook"); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if err := mayRead(ctx); err != nil {
		return err
	}
	for range 2 {
		r, err := startReplica()
		if err != nil {
			return err
		}
		replicas = append(replicas, r)
	}
	if err := pointTo(ctx, replicas[0]); err != nil {
		return err
	}
	return errors.Join(replicas[0].wait(), replicas[1].wait())
}

// pointTo has the API server ask the replica, at the paths that the manifests say.
func pointTo(ctx context.Context, r *replica) error {
	at := func(c *admissionregistrationv1.WebhookClientConfig) {
		path := ""
		if c.Service != nil {
			path = *c.Service.Path
		} else {
			_, path, _ = strings.Cut(strings.TrimPrefix(*c.URL, "https://"), "/")
			path = "/" + path
		}
		c.URL, c.Service = new(fmt.Sprintf("https://localhost:%d%s", r.port, path)), nil
	}
	var validating admissionregistrationv1.ValidatingWebhookConfiguration
	var mutating admissionregistrationv1.MutatingWebhookConfiguration
	return errors.Join(
		retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			if err := cluster.Client.Get(ctx, client.ObjectKey{Name: webhook.ConfigurationName}, &validating); err != nil {
				return err
			}
			for i := range validating.Webhooks {
				at(&validating.Webhooks[i].ClientConfig)
			}
			return cluster.Client.Update(ctx, &validating)
		}),
		retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			if err := cluster.Client.Get(ctx, client.ObjectKey{Name: webhook.EarlyName}, &mutating); err != nil {
				return err
			}
			at(&mutating.Webhooks[0].ClientConfig)
			return cluster.Client.Update(ctx, &mutating)
		}),
	)
}

func mayRead(ctx context.Context) error {
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "reads-what-policies-refer-to"},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"namespaces", "nodes", "pods", "services"}, Verbs: []string{"get", "list", "watch"}},
			{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"get", "list", "watch"}},
			{APIGroups: []string{"inspection.meerkat.dev"}, Resources: []string{"l7policies", "rulesets", "clusterrulesets"}, Verbs: []string{"get", "list", "watch"}},
		},
	}
	return errors.Join(cluster.Client.Create(ctx, role), cluster.Client.Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: "meerkat-manager", Namespace: managerNamespace}},
	}))
}

// replica is a manager with the webhook alone.
type replica struct {
	manager ctrl.Manager
	port    int
	stop    context.CancelFunc
	ended   chan error
}

func startReplica() (*replica, error) {
	config, err := cluster.User("system:serviceaccount:"+managerNamespace+":meerkat-manager",
		"system:serviceaccounts", "system:serviceaccounts:"+managerNamespace, "system:authenticated")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	m, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:        cluster.Scheme,
		Metrics:       server.Options{BindAddress: "0"},
		WebhookServer: ctrlwebhook.NewServer(ctrlwebhook.Options{Host: "localhost", Port: port}),
		Controller:    ctrlconfig.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		return nil, err
	}
	if err := webhook.Setup(m, webhook.Options{Namespace: managerNamespace, ExtraDNSNames: []string{"localhost"}}); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &replica{manager: m, port: port, stop: stop, ended: make(chan error, 1)}
	go func() { r.ended <- m.Start(ctx) }()
	return r, nil
}

// wait waits until the replica serves and its caches are filled.
func (r *replica) wait() error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := r.certificate()
		if err == nil {
			break
		}
		select {
		case ended := <-r.ended:
			return fmt.Errorf("the manager ended: %w", ended)
		case <-time.After(250 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the webhook does not serve: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if !r.manager.GetCache().WaitForCacheSync(ctx) {
		return errors.New("the manager's cache is not filled")
	}
	return nil
}

// certificate is what the replica shows its clients.
func (r *replica) certificate() ([]byte, error) {
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Second}, Config: &tls.Config{InsecureSkipVerify: true}}
	connection, err := dialer.Dial("tcp", fmt.Sprintf("localhost:%d", r.port))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	return connection.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// kubectl runs in testdata and returns everything that it prints.
func kubectl(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, cluster.Kubectl, append([]string{"--kubeconfig", cluster.Kubeconfig}, args...)...)
	c.Dir = "testdata"
	if args[len(args)-2] == "-k" {
		c.Dir = ""
	}
	cache, err := filepath.Abs(filepath.Join(filepath.Dir(cluster.Kubeconfig), "cache"))
	if err != nil {
		return "", err
	}
	c.Env = append(os.Environ(), "KUBECACHEDIR="+cache)
	out, err := c.CombinedOutput()
	return string(out), err
}
