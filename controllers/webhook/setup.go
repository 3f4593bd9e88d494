package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Names of the objects in config/webhook.
const (
	SecretName        = "meerkat-webhook-certificate"
	ServiceName       = "meerkat-webhook"
	ConfigurationName = "meerkat-validating-webhook"
	EarlyName         = "meerkat-early-check"
	PodsName          = "meerkat-sidecar"
)

const fieldOwner = "meerkat-webhook"

// Options say how the webhook is served.
type Options struct {
	// Namespace is the manager's own, where the Secret and the Service are. Required.
	Namespace string
	// ExtraDNSNames are further names to make the certificate for, where the API server reaches the manager by another way than
	// the Service. Example: localhost.
	ExtraDNSNames []string
	// Provided says that someone else, such as cert-manager, writes the Secret and the configurations' CA. Then the Secret is only
	// read.
	Provided bool
}

func (o *Options) secret() types.NamespacedName {
	return types.NamespacedName{Namespace: o.Namespace, Name: SecretName}
}

// dnsNames are what the API server calls the Service, first, and how others may.
func (o *Options) dnsNames() []string {
	name := ServiceName + "." + o.Namespace + ".svc"
	return append([]string{name, name + ".cluster.local"}, o.ExtraDNSNames...)
}

// Setup adds the webhook to a manager: the handler and its server's certificate, on every replica, and a check of readiness
// "webhook", which holds back a replica that cannot serve yet. The manager's webhook server must be controller-runtime's own; its
// certificate directory is not used. The manager's scheme must have v1alpha1 and Kubernetes' own kinds.
//
// Rights that it takes, all of them in config/webhook but the first: get, list and watch of nodes and namespaces, and of pods, services,
// endpointslices, l7policies, rulesets and clusterrulesets in all namespaces; get, list, watch and update of the one Secret and of
// the three configurations of webhooks, by name.
func Setup(mgr ctrl.Manager, o Options) error {
	if o.Namespace == "" {
		return errors.New("the webhook must be told the manager's namespace: set POD_NAMESPACE")
	}
	server, ok := mgr.GetWebhookServer().(*ctrlwebhook.DefaultServer)
	if !ok {
		return fmt.Errorf("the manager's webhook server is a %T, which takes no certificate: this is a bug in Meerkat", mgr.GetWebhookServer())
	}
	certificates, err := addCertificates(mgr, o)
	if err != nil {
		return fmt.Errorf("cannot set up the webhook's certificate: %w", err)
	}
	server.Options.TLSOpts = append(server.Options.TLSOpts, func(c *tls.Config) {
		c.MinVersion = tls.VersionTLS13
		c.GetCertificate = certificates.GetCertificate
	})
	err = ctrl.NewWebhookManagedBy(mgr, &v1alpha1.L7Policy{}).WithValidator(&Validator{Reader: mgr.GetCache()}).Complete()
	if err != nil {
		return fmt.Errorf("cannot set up the webhook: %w", err)
	}
	if err := setupSignatures(mgr); err != nil {
		return err
	}
	mgr.GetWebhookServer().Register(earlyPath, &admission.Webhook{Handler: early{}})
	// Informers start with the manager, and not when the first policy waits for an answer.
	for _, kind := range append(snapshotKinds(), &v1alpha1.RuleSet{}, &v1alpha1.ClusterRuleSet{}) {
		if _, err := mgr.GetCache().GetInformer(context.Background(), kind, cache.BlockUntilSynced(false)); err != nil {
			return fmt.Errorf("cannot watch %T: %w", kind, err)
		}
	}
	return mgr.AddReadyzCheck("webhook", server.StartedChecker())
}

// addCertificates adds the controller of the certificate, which runs on every replica. It has a cache of its own that holds these
// objects alone, so that it needs no right over others.
func addCertificates(mgr ctrl.Manager, o Options) (*Certificates, error) {
	named := func(name string) fields.Selector { return fields.OneTermEqualSelector(metav1.ObjectNameField, name) }
	objects := map[client.Object]cache.ByObject{
		&corev1.Secret{}: {Namespaces: map[string]cache.Config{o.Namespace: {FieldSelector: named(SecretName)}}},
	}
	if !o.Provided {
		objects[&admissionregistrationv1.ValidatingWebhookConfiguration{}] = cache.ByObject{Field: named(ConfigurationName)}
		objects[&admissionregistrationv1.MutatingWebhookConfiguration{}] = cache.ByObject{Field: named(EarlyName)}
	}
	own, err := cache.New(mgr.GetConfig(), cache.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), ByObject: objects})
	if err != nil {
		return nil, err
	}
	if err := mgr.Add(ownCache{own}); err != nil {
		return nil, err
	}
	// A cache holds one object of a kind, or all: this is for the other configuration.
	pods := own
	if !o.Provided {
		pods, err = cache.New(mgr.GetConfig(), cache.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), ByObject: map[client.Object]cache.ByObject{
			&admissionregistrationv1.MutatingWebhookConfiguration{}: {Field: named(PodsName)},
		}})
		if err != nil {
			return nil, err
		}
		if err := mgr.Add(ownCache{pods}); err != nil {
			return nil, err
		}
	}
	certificates := newCertificates(o, own, pods, mgr.GetClient())
	c, err := controller.New("webhook-certificate", mgr, controller.Options{
		Reconciler: certificates, NeedLeaderElection: new(false),
	})
	if err != nil {
		return nil, err
	}
	one := func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: o.secret()}}
	}
	for object := range objects {
		if err := c.Watch(source.Kind(own, object, handler.EnqueueRequestsFromMapFunc(one), predicate.ResourceVersionChangedPredicate{})); err != nil {
			return nil, err
		}
	}
	if o.Provided {
		return certificates, nil
	}
	return certificates, c.Watch(source.Kind[client.Object](pods, &admissionregistrationv1.MutatingWebhookConfiguration{},
		handler.EnqueueRequestsFromMapFunc(one), predicate.ResourceVersionChangedPredicate{}))
}

// ownCache is started by the manager like its own cache, also where it is not the leader.
type ownCache struct{ cache.Cache }

// GetCache makes the manager wait for the cache before it starts controllers.
func (c ownCache) GetCache() cache.Cache { return c.Cache }
