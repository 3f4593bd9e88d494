package main

import (
	"context"
	"fmt"
	stdlog "log"

	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/meerkat-dev/meerkat/cmd/logging"
	"github.com/meerkat-dev/meerkat/controllers/addressslice"
	"github.com/meerkat-dev/meerkat/controllers/engine"
	"github.com/meerkat-dev/meerkat/controllers/flowexport"
	"github.com/meerkat-dev/meerkat/controllers/l7policy"
	"github.com/meerkat-dev/meerkat/controllers/ruleset"
	"github.com/meerkat-dev/meerkat/controllers/sidecar"
	"github.com/meerkat-dev/meerkat/controllers/sidecar/inject"
	"github.com/meerkat-dev/meerkat/controllers/trafficinspection"
	"github.com/meerkat-dev/meerkat/controllers/webhook"
)

// serve runs the manager until the context ends.
func serve(ctx context.Context, o *options) error {
	if err := o.check(); err != nil {
		return err
	}
	log, err := logging.New(o.logLevel)
	if err != nil {
		return err
	}
	ctrl.SetLogger(log)
	klog.SetLogger(log.WithName("klog"))
	stdlog.SetFlags(0)
	stdlog.SetOutput(lines{log.WithName("http")})

	config, err := clusterConfig()
	if err != nil {
		return err
	}
	config.QPS, config.Burst = o.apiQPS, o.apiBurst
	mgr, err := newManager(config, o)
	if err != nil {
		return fmt.Errorf("the manager cannot be set up: %w", err)
	}
	if err := setup(mgr, o); err != nil {
		return err
	}
	log.Info("Starting", "version", version, "namespace", o.namespace, "agentImage", o.images.Agent,
		"engineImage", o.images.Engine, "switchImage", o.images.Switch)
	return mgr.Start(ctx)
}

// setup adds the controllers and the webhook.
func setup(mgr ctrl.Manager, o *options) error {
	if err := addressslice.Setup(mgr, addressslice.Options{}); err != nil {
		return fmt.Errorf("the controller of AddressSlices cannot be set up: %w", err)
	}
	if err := l7policy.Setup(mgr, l7policy.Options{}); err != nil {
		return fmt.Errorf("the controller of L7Policies cannot be set up: %w", err)
	}
	if err := engine.Setup(mgr, engine.Options{Namespace: o.namespace, Images: o.images}); err != nil {
		return fmt.Errorf("the controller of Engines cannot be set up: %w", err)
	}
	if err := ruleset.Setup(mgr, ruleset.Options{Namespace: o.namespace}); err != nil {
		return fmt.Errorf("the controller of RuleSets cannot be set up: %w", err)
	}
	if err := trafficinspection.Setup(mgr, trafficinspection.Options{}); err != nil {
		return fmt.Errorf("the controller of TrafficInspections cannot be set up: %w", err)
	}
	if err := flowexport.Setup(mgr, flowexport.Options{}); err != nil {
		return fmt.Errorf("the controller of FlowExports cannot be set up: %w", err)
	}
	if err := sidecar.Setup(mgr); err != nil {
		return fmt.Errorf("the controller of sidecars cannot be set up: %w", err)
	}
	if !o.webhook {
		return nil
	}
	if err := webhook.Setup(mgr, webhook.Options{Namespace: o.namespace, Provided: o.certProvided}); err != nil {
		return fmt.Errorf("the webhook cannot be set up: %w", err)
	}
	sidecar.SetupWebhook(mgr, o.images.Engine, inject.Level(o.podSecurity))
	return nil
}
