package flowexport

import (
	"cmp"
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// +kubebuilder:rbac:groups="",resources=nodes,verbs=list;watch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=flowexports;nodeinspections;engines,verbs=list;watch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=flowexports/status,verbs=patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Options say how often statuses are worked out and written. The zero value has the defaults.
type Options struct {
	// Settle is how long changes are gathered before an export is looked at. Default: 1 s.
	Settle time.Duration
	// ProgressInterval is the least time between two writes of a status of which nothing but numbers and texts have changed.
	// Default: 5 s.
	ProgressInterval time.Duration
	// Now tells the time; time.Now when left out.
	Now func() time.Time
}

// workers is how many exports are worked on at once: there are few.
const workers = 1

// Setup adds the controller of FlowExports to the manager. It acts only on the leader.
func Setup(mgr ctrl.Manager, o Options) error {
	o.Settle = cmp.Or(o.Settle, time.Second)
	o.ProgressInterval = cmp.Or(o.ProgressInterval, 5*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &reconciler{Options: o, client: mgr.GetClient(), events: mgr.GetEventRecorder("meerkat-manager"), written: map[string]time.Time{}}
	return ctrl.NewControllerManagedBy(mgr).
		Named("flowexport").
		For(&v1alpha1.FlowExport{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Node{}, r.onAll(), builder.WithPredicates(nodeTurns())).
		Watches(&v1alpha1.Engine{}, r.onAll(), builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, deletionStarted()))).
		Watches(&v1alpha1.NodeInspection{}, r.onReports()).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
}

type reconciler struct {
	Options
	client client.Client
	events events.EventRecorder

	mu sync.Mutex
	// written is when the status of each export was last written.
	written map[string]time.Time
}

func (r *reconciler) writtenAt(name string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.written[name]
}

func (r *reconciler) wrote(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written[name] = r.Now()
}

func (r *reconciler) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.written, name)
}

// exports lists all exports.
func (r *reconciler) exports(ctx context.Context) ([]v1alpha1.FlowExport, error) {
	var all v1alpha1.FlowExportList
	err := r.client.List(ctx, &all, client.UnsafeDisableDeepCopy)
	return all.Items, err
}
