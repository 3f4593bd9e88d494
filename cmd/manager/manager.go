package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/objectcache"
)

// leaseName is the name of the Lease of the manager that leads.
const leaseName = "meerkat-manager"

func newScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	return s, errors.Join(clientgoscheme.AddToScheme(s), v1alpha1.AddToScheme(s))
}

// newManager makes a manager with its servers and its cache, without controllers.
func newManager(config *rest.Config, o *options) (ctrl.Manager, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	warm := true
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme,
		Cache:  cacheOptions(o),
		Controller: ctrlconfig.Controller{
			EnableWarmup: &warm, // The one that does not lead can take over at once.
		},

		LeaderElection:                o.leaderElect,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true, // The process ends when the manager does.
		LeaseDuration:                 &o.leaseDuration,
		RenewDeadline:                 &o.renewDeadline,
		RetryPeriod:                   &o.retryPeriod,
		GracefulShutdownTimeout:       &o.shutdownPeriod,

		Metrics: metricsserver.Options{
			BindAddress:    o.metricsAddress,
			SecureServing:  true,
			FilterProvider: filters.WithAuthenticationAndAuthorization,
			TLSOpts:        o.tlsOptions(),
		},
		HealthProbeBindAddress: o.healthAddress,
		PprofBindAddress:       o.pprofAddress,
		WebhookServer:          webhook.NewServer(webhook.Options{Port: o.webhookPort, TLSOpts: o.tlsOptions()}),
	})
	if err != nil {
		return nil, err
	}
	return mgr, addChecks(mgr)
}

// cacheOptions keeps the cache small: of the kinds that there are many of, what controllers read; of DaemonSets, the manager's own
// namespace, where it may read them.
func cacheOptions(o *options) cache.Options {
	c := objectcache.Options()
	c.ByObject[&appsv1.DaemonSet{}] = cache.ByObject{Namespaces: map[string]cache.Config{o.namespace: {}}}
	return c
}

// addChecks makes the manager ready once its caches are filled: before that, it would check policies against a part of what exists.
// The webhook adds a check of its own.
func addChecks(mgr ctrl.Manager) error {
	var filled atomic.Bool
	err := mgr.Add(always{func(ctx context.Context) error {
		filled.Store(mgr.GetCache().WaitForCacheSync(ctx))
		<-ctx.Done()
		return nil
	}})
	if err != nil {
		return err
	}
	return errors.Join(
		mgr.AddHealthzCheck("ping", healthz.Ping),
		mgr.AddReadyzCheck("caches", func(*http.Request) error {
			if !filled.Load() {
				return fmt.Errorf("the caches are not filled yet")
			}
			return nil
		}),
	)
}

// always runs whether the manager leads or not.
type always struct{ manager.RunnableFunc }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (always) NeedLeaderElection() bool { return false }
