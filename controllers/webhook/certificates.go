package webhook

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/cert-controller/pkg/rotator"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Keys of the Secret, besides tls.crt and tls.key.
const (
	keyCA    = "ca.crt"
	keyCAKey = "ca.key"
)

// How long certificates hold, how long before their end they are renewed, and how often that is looked at.
const (
	caValidity     = 10 * 365 * 24 * time.Hour
	serverValidity = 365 * 24 * time.Hour
	renewBefore    = 90 * 24 * time.Hour
	checkEvery     = 12 * time.Hour
)

// Certificates keeps the certificate of the webhook's server: in one Secret, which all replicas of the manager share. The replica
// that comes first makes it, all serve it from memory as soon as they see it, and it is renewed 90 days before its end. The CA's
// certificate is written into the webhooks' configurations, and put back when someone takes it away. Another CA, after ten years
// or when the Secret is emptied, costs requests that come within the moment between the two writes.
type Certificates struct {
	options Options
	reader  client.Reader
	pods    client.Reader // of the configuration of the webhook of Pods
	writer  client.Writer
	maker   *rotator.CertRotator
	serving atomic.Pointer[tls.Certificate]
}

func newCertificates(o Options, reader, pods client.Reader, writer client.Writer) *Certificates {
	return &Certificates{
		options: o, reader: reader, pods: pods, writer: writer,
		maker: &rotator.CertRotator{
			CAName: "meerkat-webhook-ca", CAOrganization: "meerkat", DNSName: o.dnsNames()[0], ExtraDNSNames: o.dnsNames()[1:],
			ExtKeyUsages: &[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		},
	}
}

// GetCertificate is for tls.Config. It fails until there is a certificate.
func (c *Certificates) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if certificate := c.serving.Load(); certificate != nil {
		return certificate, nil
	}
	return nil, fmt.Errorf("the webhook has no certificate yet: it is made as soon as the Secret %s can be read and written", c.options.secret())
}

// Reconcile brings the Secret, what is served and the configuration in line.
func (c *Certificates) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var secret corev1.Secret
	if err := c.reader.Get(ctx, c.options.secret(), &secret); err != nil {
		// Without the Secret, what is in memory is served on.
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !c.options.Provided {
		if made, err := c.renew(ctx, &secret); err != nil || made {
			return reconcile.Result{}, ignoreConflict(err) // its own change brings the next call
		}
	}
	certificate, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		if c.options.Provided {
			logf.FromContext(ctx).Info("The Secret has no usable certificate yet", "reason", err.Error())
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("the Secret %s: %w", c.options.secret(), err)
	}
	c.serving.Store(&certificate)
	if !c.options.Provided {
		if err := c.inject(ctx, secret.Data[keyCA]); err != nil {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{RequeueAfter: checkEvery}, nil
}

// renew writes another certificate into the Secret when the one that is there is missing, wrong or nears its end. Of several
// replicas that try, the API server lets one.
func (c *Certificates) renew(ctx context.Context, secret *corev1.Secret) (made bool, err error) {
	now := time.Now()
	at := now.Add(renewBefore)
	caValid, _ := rotator.ValidCert(secret.Data[keyCA], secret.Data[keyCA], secret.Data[keyCAKey], c.maker.CAName, nil, at)
	valid := caValid
	for _, name := range c.options.dnsNames() {
		ok, _ := rotator.ValidCert(secret.Data[keyCA], secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey],
			name, c.maker.ExtKeyUsages, at)
		valid = valid && ok
	}
	if valid {
		return false, nil
	}
	begin := now.Add(-time.Hour)
	ca, err := keptCA(secret)
	if !caValid || err != nil {
		if ca, err = c.maker.CreateCACert(begin, now.Add(caValidity)); err != nil {
			return false, err
		}
	}
	certificate, key, err := c.maker.CreateCertPEM(ca, begin, now.Add(serverValidity))
	if err != nil {
		return false, err
	}
	changed := secret.DeepCopy()
	changed.Data = map[string][]byte{
		keyCA: ca.CertPEM, keyCAKey: ca.KeyPEM, corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key,
	}
	if err := c.writer.Update(ctx, changed, client.FieldOwner(fieldOwner)); err != nil {
		return false, err
	}
	logf.FromContext(ctx).Info("Made a certificate for the webhook", "newCA", !caValid, "notAfter", now.Add(serverValidity))
	return true, nil
}

// inject writes the CA's certificate into the webhooks' configurations.
func (c *Certificates) inject(ctx context.Context, ca []byte) error {
	var validating admissionregistrationv1.ValidatingWebhookConfiguration
	var mutating, pods admissionregistrationv1.MutatingWebhookConfiguration
	of := func(configuration *admissionregistrationv1.MutatingWebhookConfiguration) func() []*[]byte {
		return func() (bundles []*[]byte) {
			for i := range configuration.Webhooks {
				bundles = append(bundles, &configuration.Webhooks[i].ClientConfig.CABundle)
			}
			return bundles
		}
	}
	return errors.Join(
		c.injectInto(ctx, c.reader, ca, ConfigurationName, &validating, func() (bundles []*[]byte) {
			for i := range validating.Webhooks {
				bundles = append(bundles, &validating.Webhooks[i].ClientConfig.CABundle)
			}
			return bundles
		}),
		c.injectInto(ctx, c.reader, ca, EarlyName, &mutating, of(&mutating)),
		c.injectInto(ctx, c.pods, ca, PodsName, &pods, of(&pods)),
	)
}

// injectInto reads a configuration into the object, and writes it back when one of its bundles is another.
func (c *Certificates) injectInto(ctx context.Context, reader client.Reader, ca []byte, name string, object client.Object, bundles func() []*[]byte) error {
	if err := reader.Get(ctx, client.ObjectKey{Name: name}, object); err != nil {
		return client.IgnoreNotFound(err)
	}
	current := true
	for _, bundle := range bundles() {
		current = current && bytes.Equal(*bundle, ca)
		*bundle = ca
	}
	if current {
		return nil
	}
	if err := c.writer.Update(ctx, object, client.FieldOwner(fieldOwner)); err != nil {
		return ignoreConflict(err)
	}
	logf.FromContext(ctx).Info("Wrote the CA's certificate into a webhook's configuration", "configuration", name)
	return nil
}

// ignoreConflict leaves aside that another replica was first: its change brings the next call.
func ignoreConflict(err error) error {
	if apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// keptCA takes the CA out of the Secret, to sign another certificate with.
func keptCA(secret *corev1.Secret) (*rotator.KeyPairArtifacts, error) {
	ca, err := tls.X509KeyPair(secret.Data[keyCA], secret.Data[keyCAKey])
	if err != nil {
		return nil, err
	}
	key, ok := ca.PrivateKey.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("the CA's key is no RSA key")
	}
	return &rotator.KeyPairArtifacts{Cert: ca.Leaf, Key: key, CertPEM: secret.Data[keyCA], KeyPEM: secret.Data[keyCAKey]}, nil
}
