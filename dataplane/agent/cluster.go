package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// cluster is what the API server says, as far as it matters to one node. Informers keep it.
type cluster struct {
	node  string
	cache cache.Cache
	// client asks the API server itself, and writes.
	client client.Client
	// informers are those of watched, in its order.
	informers []cache.Informer
}

// watched are the kinds that an agent watches.
func watched() []client.Object {
	return []client.Object{
		&corev1.Pod{}, &corev1.Node{}, &corev1.Service{}, &discoveryv1.EndpointSlice{},
		&v1alpha1.L7Policy{}, &v1alpha1.AddressSlice{}, &v1alpha1.Engine{},
		&v1alpha1.TrafficInspection{}, &v1alpha1.RuleSet{}, &v1alpha1.ClusterRuleSet{}, &v1alpha1.FlowExport{},
	}
}

// newScheme knows no more kinds than the agent needs.
func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(discoveryv1.AddToScheme(scheme))
	utilruntime.Must(authenticationv1.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	return scheme
}

// newMapper knows the kinds without asking the API server, which may be away when the agent starts.
func newMapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	m.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("Service"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("Node"), meta.RESTScopeRoot)
	m.Add(authenticationv1.SchemeGroupVersion.WithKind("TokenReview"), meta.RESTScopeRoot)
	m.Add(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), meta.RESTScopeNamespace)
	for _, kind := range []string{"L7Policy", "TrafficInspection", "RuleSet"} {
		m.Add(v1alpha1.GroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	for _, kind := range []string{"AddressSlice", "NodeInspection", "Engine", "ClusterRuleSet", "RuleSetRevision", "FlowExport"} {
		m.Add(v1alpha1.GroupVersion.WithKind(kind), meta.RESTScopeRoot)
	}
	return m
}

// newCluster prepares informers; start starts them.
func newCluster(cfg *rest.Config, node string) (*cluster, error) {
	scheme, mapper := newScheme(), newMapper()
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("the API server cannot be asked: %w", err)
	}
	shared := true // what lists give is the informers' own and never changed
	c, err := cache.New(cfg, cache.Options{
		Scheme: scheme, Mapper: mapper, HTTPClient: httpClient,
		DefaultUnsafeDisableDeepCopy: &shared,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}:                {Field: fields.OneTermEqualSelector("spec.nodeName", node), Transform: slimPod},
			&corev1.Node{}:               {Transform: slimNode}, // all: their addresses are where node ports are
			&corev1.Service{}:            {Transform: slimService},
			&discoveryv1.EndpointSlice{}: {Transform: slimEndpointSlice},
			&v1alpha1.L7Policy{}:         {Transform: slimPolicy},
			&v1alpha1.AddressSlice{}:     {Transform: slimAddressSlice},
			&v1alpha1.Engine{}:           {Transform: slimEngine},

			&v1alpha1.TrafficInspection{}: {Transform: slimInspection},
			&v1alpha1.RuleSet{}:           {Transform: slimRuleSet},
			&v1alpha1.ClusterRuleSet{}:    {Transform: slimClusterRuleSet},
			&v1alpha1.FlowExport{}:        {Transform: slimFlowExport},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("the API server cannot be watched: %w", err)
	}
	direct, err := client.New(cfg, client.Options{Scheme: scheme, Mapper: mapper, HTTPClient: httpClient})
	if err != nil {
		return nil, fmt.Errorf("the API server cannot be asked: %w", err)
	}
	return &cluster{node: node, cache: c, client: direct}, nil
}

// start starts the informers, calls changed after each change of anything, and returns. The informers go on until ctx ends, also
// while the API server is away.
func (c *cluster) start(ctx context.Context, changed func()) error {
	ended := make(chan error, 1)
	go func() { ended <- c.cache.Start(ctx) }()
	for _, object := range watched() {
		informer, err := c.cache.GetInformer(ctx, object, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("%T cannot be watched: %w", object, err)
		}
		c.informers = append(c.informers, informer)
		if _, polled := object.(*v1alpha1.FlowExport); polled {
			continue // no Sync is needed for these: see followFlows
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { changed() },
			DeleteFunc: func(any) { changed() },
			UpdateFunc: func(before, after any) {
				if !sameVersion(before, after) && !sameNode(before, after) {
					changed()
				}
			},
		}); err != nil {
			return fmt.Errorf("%T cannot be watched: %w", object, err)
		}
	}
	select {
	case err := <-ended:
		return errors.Join(errors.New("the informers have ended"), err)
	default:
		return nil
	}
}

// synced returns once every informer has heard everything, or ctx ends.
func (c *cluster) synced(ctx context.Context) bool { return c.cache.WaitForCacheSync(ctx) }

// revision reads a RuleSetRevision.
func (c *cluster) revision(ctx context.Context, name string) (*v1alpha1.RuleSetRevision, error) {
	var r v1alpha1.RuleSetRevision
	if err := c.client.Get(ctx, client.ObjectKey{Name: name}, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// unheard names the kinds that not everything is known of.
func (c *cluster) unheard() string {
	var kinds []string
	for i, informer := range c.informers {
		if !informer.HasSynced() {
			kind := reflect.TypeOf(watched()[i]).Elem().Name()
			kinds = append(kinds, kind)
		}
	}
	return strings.Join(kinds, ", ")
}

// sameNode tells that a node's addresses are what they were: its status is written often.
func sameNode(a, b any) bool {
	x, isNode := a.(*corev1.Node)
	y, isNode2 := b.(*corev1.Node)
	return isNode && isNode2 && slices.Equal(x.Status.Addresses, y.Status.Addresses)
}

func sameVersion(a, b any) bool {
	x, err := meta.Accessor(a)
	y, err2 := meta.Accessor(b)
	return err == nil && err2 == nil && x.GetResourceVersion() == y.GetResourceVersion()
}
