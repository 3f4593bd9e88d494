package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
)

// serveSecurely answers /metrics by HTTPS at SecureMetricsAddress for those whose token may "get" that path, as managers do: Prometheus does
// not reach a node's loopback address. The certificate is the agent's own, made anew at each start.
func (a *Agent) serveSecurely(ctx context.Context, background *sync.WaitGroup, metrics http.Handler) error {
	if a.cfg.SecureMetricsAddress == "" {
		return nil
	}
	certificate, key, err := cert.GenerateSelfSignedCertKey(a.cfg.Node, nil, nil)
	if err != nil {
		return fmt.Errorf("metrics cannot be served: %w", err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return fmt.Errorf("metrics cannot be served: %w", err)
	}
	// Strangers' questions do not take part of what the agent itself may ask the API server in a second.
	asking := rest.CopyConfig(a.cfg.REST)
	asking.QPS, asking.Burst, asking.RateLimiter = askRate, askBurst, nil
	client, err := rest.HTTPClientFor(asking)
	if err != nil {
		return fmt.Errorf("metrics cannot be served: %w", err)
	}
	filter, err := filters.WithAuthenticationAndAuthorization(asking, client)
	if err != nil {
		return fmt.Errorf("metrics cannot be served: %w", err)
	}
	allowed, err := filter(a.cfg.Log.WithName("metrics"), metrics)
	if err != nil {
		return fmt.Errorf("metrics cannot be served: %w", err)
	}
	return a.serveWith(ctx, background, a.cfg.SecureMetricsAddress, allowed, func(l net.Listener) net.Listener {
		return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	})
}
