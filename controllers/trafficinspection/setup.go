package trafficinspection

import (
	"cmp"
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	corev1 "k8s.io/api/core/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// +kubebuilder:rbac:groups="",resources=nodes;pods,verbs=list;watch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=trafficinspections;rulesets;clusterrulesets;nodeinspections;engines,verbs=list;watch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=trafficinspections/status,verbs=patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Options say how often statuses are worked out and written. The zero value has the defaults.
type Options struct {
	// Settle is how long changes are gathered before an inspection is looked at. Default: 1 s.
	Settle time.Duration
	// CountInterval is the least time between two writes of an inspection's counts. Default: 1 min.
	CountInterval time.Duration
	// ProgressInterval is the least time between two writes of a status of which nothing but numbers and texts have changed.
	// Default: 5 s.
	ProgressInterval time.Duration
	// Now tells the time; time.Now when left out.
	Now func() time.Time
}

// workers is how many inspections are worked on at once.
const workers = 4

// Setup adds the controller of TrafficInspections to the manager. It acts only on the leader.
func Setup(mgr ctrl.Manager, o Options) error {
	o.Settle = cmp.Or(o.Settle, time.Second)
	o.CountInterval = cmp.Or(o.CountInterval, time.Minute)
	o.ProgressInterval = cmp.Or(o.ProgressInterval, 5*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &reconciler{Options: o, client: mgr.GetClient(), events: mgr.GetEventRecorder("meerkat-manager"), records: map[types.NamespacedName]*record{}}
	return ctrl.NewControllerManagedBy(mgr).
		Named("trafficinspection").
		For(&v1alpha1.TrafficInspection{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.RuleSet{}, r.onSets(), builder.WithPredicates(comesOrGoes())).
		Watches(&v1alpha1.ClusterRuleSet{}, r.onSets(), builder.WithPredicates(comesOrGoes())).
		Watches(&corev1.Pod{}, r.onPods()).
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

	mu      sync.Mutex
	records map[types.NamespacedName]*record
}

// record is what is kept of an inspection. One worker at a time uses it.
type record struct {
	tally *tally
	// written is when the status was last written, and counted when it was with new counts.
	written, counted time.Time
}

func (r *reconciler) recordOf(name types.NamespacedName) *record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.records[name] == nil {
		r.records[name] = &record{}
	}
	return r.records[name]
}

func (r *reconciler) forget(name types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.records, name)
}

// inspections lists inspections; of all namespaces when it is empty.
func (r *reconciler) inspections(ctx context.Context, namespace string) ([]v1alpha1.TrafficInspection, error) {
	var all v1alpha1.TrafficInspectionList
	err := r.client.List(ctx, &all, client.InNamespace(namespace), client.UnsafeDisableDeepCopy)
	return all.Items, err
}
