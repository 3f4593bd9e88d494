package addressslice

import (
	"cmp"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Options say how slices are written. The zero value has the defaults.
type Options struct {
	// Batch is how long a change waits for others of the same selector, so that they are written together. Default: 75 ms.
	Batch time.Duration
	// Interval is the least time between two writes for one selector. A change after a quiet time does not wait for it.
	// Default: 250 ms.
	Interval time.Duration
	// Grace is how long the slices of a selector that no policy has any more are kept. Default: 1 min.
	Grace time.Duration
	// Workers is how many selectors are written at once. Default: 8.
	Workers int
	// PeersPerSlice is how many peers are put into a slice at most. Every write of a slice goes to every node: a large slice costs
	// some 150 bytes for each of its peers and each node, and 0.2 ms of an API server's processor for each of its peers; many small
	// ones cost more writes when many Pods change. Default: 100, as EndpointSlices have,
	// at most v1alpha1.MaxPeersPerSlice.
	PeersPerSlice int
}

func (o Options) withDefaults() Options {
	o.Batch = cmp.Or(o.Batch, 75*time.Millisecond)
	o.Interval = cmp.Or(o.Interval, 250*time.Millisecond)
	o.Grace = cmp.Or(o.Grace, time.Minute)
	o.Workers = cmp.Or(o.Workers, 8)
	o.PeersPerSlice = min(cmp.Or(o.PeersPerSlice, 100), v1alpha1.MaxPeersPerSlice)
	return o
}

// Setup adds the controller to the manager, whose cache is expected to have the options of package objectcache. It acts only on
// the leader.
//
// +kubebuilder:rbac:groups="",resources=pods;namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=l7policies;engines,verbs=get;list;watch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=trafficinspections,verbs=list;watch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=addressslices,verbs=get;list;watch;create;update;delete
func Setup(mgr ctrl.Manager, o Options) error {
	o = o.withDefaults()
	m, err := newMetrics()
	if err != nil {
		return err
	}
	r := &reconciler{client: mgr.GetClient(), board: newBoard(), options: o, metrics: m, now: time.Now}
	return builder.TypedControllerManagedBy[string](mgr).
		Named("addressslice").
		Watches(&corev1.Namespace{}, r.onNamespaces()).
		Watches(&corev1.Pod{}, r.onPods()).
		Watches(&v1alpha1.L7Policy{}, r.onPolicies()).
		Watches(&v1alpha1.TrafficInspection{}, r.onInspections()).
		Watches(&v1alpha1.AddressSlice{}, r.onSlices()).
		Watches(&v1alpha1.Engine{}, r.onEngines()).
		WithOptions(controller.TypedOptions[string]{
			MaxConcurrentReconciles: o.Workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[string](20*time.Millisecond, 30*time.Second),
		}).
		Complete(r)
}
