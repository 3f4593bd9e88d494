package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// objectFlags say where a command has its objects from: files, or a cluster.
type objectFlags struct {
	files               []string
	kubeconfig, context string
}

func (f *objectFlags) add(flags *pflag.FlagSet) {
	flags.StringSliceVarP(&f.files, "filename", "f", nil, "YAML file with objects, or directory of them, instead of a cluster; may be given several times")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (default: $KUBECONFIG, then ~/.kube/config)")
	flags.StringVar(&f.context, "context", "", "context of the kubeconfig (default: its current one)")
}

// readTimeout bounds the reading of a cluster's objects.
const readTimeout = time.Minute

// snapshot gives the state that policies are judged by.
func (f *objectFlags) snapshot(ctx context.Context) (plan.Snapshot, error) {
	if len(f.files) > 0 {
		if f.kubeconfig != "" || f.context != "" {
			return plan.Snapshot{}, usageError(errors.New("-f reads files and no cluster: leave out --kubeconfig and --context"))
		}
		objects, err := loadObjects(f.files)
		if err != nil {
			return plan.Snapshot{}, err
		}
		s, err := lab.Snapshot(objects)
		return s, usageError(err)
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	s, err := f.read(ctx)
	if err != nil {
		return plan.Snapshot{}, exitError{exitUnable, fmt.Errorf("the cluster's objects cannot be read (or name files with -f): %w", err)}
	}
	return s, nil
}

func (f *objectFlags) read(ctx context.Context) (plan.Snapshot, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	rest, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.context}).ClientConfig()
	if err != nil {
		return plan.Snapshot{}, err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return plan.Snapshot{}, err
	}
	c, err := client.New(rest, client.Options{Scheme: scheme})
	if err != nil {
		return plan.Snapshot{}, err
	}
	var namespaces corev1.NamespaceList
	var nodes corev1.NodeList
	var pods corev1.PodList
	var services corev1.ServiceList
	var slices discoveryv1.EndpointSliceList
	var policies v1alpha1.L7PolicyList
	var errs []error
	for _, list := range []client.ObjectList{&namespaces, &nodes, &pods, &services, &slices, &policies} {
		errs = append(errs, c.List(ctx, list))
	}
	return plan.Snapshot{
		Namespaces: namespaces.Items, Nodes: nodes.Items, Pods: pods.Items, Services: services.Items, EndpointSlices: slices.Items, L7Policies: policies.Items,
	}, errors.Join(errs...)
}
