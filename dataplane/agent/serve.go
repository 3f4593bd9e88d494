package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// stuckAfter is how long the loop may take for one turn until the agent counts as stuck. A Sync is bounded by the time limits of what
// it calls.
const stuckAfter = 5 * time.Minute

// serve answers /healthz and /readyz, and /metrics, until ctx ends.
func (a *Agent) serve(ctx context.Context, background *sync.WaitGroup) error {
	health := http.NewServeMux()
	health.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if since := time.Since(time.Unix(0, a.alive.Load())); since > stuckAfter {
			http.Error(w, fmt.Sprintf("the agent has been stuck for %s", since.Round(time.Second)), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	health.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := a.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	metrics := http.NewServeMux()
	metrics.Handle("GET /metrics", promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{}))
	return errors.Join(a.serveAt(ctx, background, a.cfg.HealthAddress, health),
		a.serveAt(ctx, background, a.cfg.SidecarAddress, newSidecarServer(a)), a.serveAt(ctx, background, a.cfg.MetricsAddress, metrics),
		a.serveSecurely(ctx, background, metrics))
}

func (a *Agent) serveAt(ctx context.Context, background *sync.WaitGroup, address string, handler http.Handler) error {
	return a.serveWith(ctx, background, address, handler, func(l net.Listener) net.Listener { return l })
}

// serveWith serves at an address by what wrap makes of its listener.
func (a *Agent) serveWith(ctx context.Context, background *sync.WaitGroup, address string, handler http.Handler, wrap func(net.Listener) net.Listener) error {
	if address == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("health and metrics cannot be served: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 1 << 14}
	background.Go(func() { a.listen(ctx, server, address, wrap) })
	background.Go(func() { <-ctx.Done(); _ = server.Close() })
	return nil
}

// listen serves as soon as the address is free: another agent may not have ended yet.
func (a *Agent) listen(ctx context.Context, server *http.Server, address string, wrap func(net.Listener) net.Listener) {
	for told := ""; ctx.Err() == nil; a.idle(ctx, attemptEvery) {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err == nil {
			err = server.Serve(wrap(listener))
		}
		if err.Error() != told && ctx.Err() == nil {
			told = err.Error()
			a.cfg.Log.Error(err, "What is asked at an address is not served", "address", address)
		}
	}
}
