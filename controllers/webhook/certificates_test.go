package webhook_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/controllers/webhook"
)

// TestReplicasServeOneCertificate looks at what each replica shows, and whether the API server's CA vouches for it.
func TestReplicasServeOneCertificate(t *testing.T) {
	eventually(t, "both replicas serve a certificate that the API server trusts", func() string { return trusted(t) })
}

// TestCertificatesComeBack takes away what the webhook is trusted by.
func TestCertificatesComeBack(t *testing.T) {
	t.Run("the CA", func(t *testing.T) {
		configuration := configuration(t)
		configuration.Webhooks[0].ClientConfig.CABundle = nil
		if err := cluster.Client.Update(t.Context(), configuration); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the CA is back", func() string { return trusted(t) })
	})
	t.Run("the Secret", func(t *testing.T) {
		before, err := replicas[0].certificate()
		if err != nil {
			t.Fatal(err)
		}
		secret := secret(t)
		secret.Data = nil
		if err := cluster.Client.Update(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another certificate is served, and trusted", func() string {
			now, err := replicas[0].certificate()
			if err != nil {
				return err.Error()
			}
			if bytes.Equal(now, before) {
				return "it is still the old one"
			}
			return trusted(t)
		})
	})
	t.Run("the server's certificate alone", func(t *testing.T) {
		secret := secret(t)
		ca := secret.Data["ca.crt"]
		secret.Data["tls.crt"] = nil
		if err := cluster.Client.Update(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		eventually(t, "there is another, of the same CA", func() string {
			now := read(t, client.ObjectKeyFromObject(secret), &corev1.Secret{})
			if len(now.Data["tls.crt"]) == 0 {
				return "there is none"
			}
			if !bytes.Equal(now.Data["ca.crt"], ca) {
				t.Fatal("the CA is another too")
			}
			return trusted(t)
		})
	})
}

// TestSecretSurvivesApply applies the manifests again, with their empty Secret and their configuration without a CA.
func TestSecretSurvivesApply(t *testing.T) {
	before := secret(t)
	for _, how := range [][]string{
		{"apply", "-f", "../../../config/webhook/secret.yaml"},
		{"apply", "--server-side", "--force-conflicts", "-f", "../../../config/webhook/secret.yaml"},
	} {
		if out, err := kubectl(how...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if after := secret(t); len(before.Data) != 4 || !bytes.Equal(before.Data["tls.crt"], after.Data["tls.crt"]) {
			t.Errorf("%v took the certificate away", how)
		}
	}
}

// trusted says why not every replica is trusted, or nothing.
func trusted(t *testing.T) string {
	bundle := configuration(t).Webhooks[0].ClientConfig.CABundle
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(bundle) {
		return "the configuration has no CA"
	}
	for _, r := range replicas {
		raw, err := r.certificate()
		if err != nil {
			return err.Error()
		}
		certificate, err := x509.ParseCertificate(raw)
		if err != nil {
			return err.Error()
		}
		for _, name := range []string{"meerkat-webhook.meerkat-system.svc", "localhost"} {
			if _, err := certificate.Verify(x509.VerifyOptions{Roots: pool, DNSName: name}); err != nil {
				return err.Error()
			}
		}
	}
	return ""
}

func configuration(t *testing.T) *admissionregistrationv1.ValidatingWebhookConfiguration {
	return read(t, client.ObjectKey{Name: webhook.ConfigurationName}, &admissionregistrationv1.ValidatingWebhookConfiguration{})
}

func secret(t *testing.T) *corev1.Secret {
	return read(t, client.ObjectKey{Namespace: managerNamespace, Name: webhook.SecretName}, &corev1.Secret{})
}

func read[T client.Object](t *testing.T, key client.ObjectKey, object T) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := cluster.Client.Get(ctx, key, object); err != nil {
		t.Fatal(err)
	}
	return object
}

// eventually waits at most ten seconds until nothing is in the way.
func eventually(t *testing.T, what string, inTheWay func() string) {
	t.Helper()
	began := time.Now()
	for {
		why := inTheWay()
		if why == "" {
			t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
			return
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("not so after ten seconds: %s: %s", what, why)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
