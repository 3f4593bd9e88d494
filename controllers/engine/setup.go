package engine

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/engine/render"
)

// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=engines,verbs=list;watch;patch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=engines/status,verbs=patch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=nodeinspections,verbs=list;watch;deletecollection
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=addressslices,verbs=deletecollection
// +kubebuilder:rbac:groups="",resources=pods,verbs=list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=apps,resources=daemonsets,verbs=list;watch;create,namespace=meerkat-system
// +kubebuilder:rbac:groups=apps,resources=daemonsets,resourceNames=meerkat-node;meerkat-switch,verbs=patch;delete,namespace=meerkat-system

// settle is how long changes on nodes are gathered before the status is looked at again: it is written at most about this often,
// however many nodes there are.
const settle = time.Second

// Options are what the controller needs to know beside the cluster's objects.
type Options struct {
	Namespace string        // the manager's, where the DaemonSets live
	Images    render.Images // what nodes run where the Engine names nothing else

	// Now tells the time; time.Now when left out.
	Now func() time.Time
}

// Setup adds the controller to the manager.
func Setup(mgr ctrl.Manager, opts Options) error {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	r := &reconciler{
		Options: opts,
		client:  mgr.GetClient(),
		live:    mgr.GetAPIReader(),
		events:  mgr.GetEventRecorder("meerkat-manager"),
		applied: map[string]appliedSet{},
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("engine").
		For(&v1alpha1.Engine{}, builder.WithPredicates(predicate.Or(
			predicate.GenerationChangedPredicate{}, deletionStarted(),
		))).
		Watches(&appsv1.DaemonSet{}, gathered(), builder.WithPredicates(predicate.NewPredicateFuncs(isOurs(opts.Namespace)))).
		Watches(&v1alpha1.NodeInspection{}, gathered(), builder.WithPredicates(conditionsChanged())).
		Complete(r)
}

// reconciler makes the cluster what the Engine says. One worker runs it, since there is one Engine.
type reconciler struct {
	Options
	client  client.Client
	live    client.Reader // reads past the cache
	events  events.EventRecorder
	applied map[string]appliedSet
}

// gathered pokes the Engine a moment later, and once for all that happens until then.
func gathered() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	poke := func(q queue) {
		request := reconcile.Request{}
		request.Name = v1alpha1.EngineName
		q.AddAfter(request, settle)
	}
	return handler.Funcs{
		CreateFunc:  func(_ context.Context, _ event.CreateEvent, q queue) { poke(q) },
		UpdateFunc:  func(_ context.Context, _ event.UpdateEvent, q queue) { poke(q) },
		DeleteFunc:  func(_ context.Context, _ event.DeleteEvent, q queue) { poke(q) },
		GenericFunc: func(_ context.Context, _ event.GenericEvent, q queue) { poke(q) },
	}
}

func isOurs(namespace string) func(client.Object) bool {
	return func(o client.Object) bool {
		return o.GetNamespace() == namespace && (o.GetName() == render.NodeDaemonSet || o.GetName() == render.SwitchDaemonSet)
	}
}

// deletionStarted lets through that an object is being deleted: that changes neither its spec nor its generation everywhere.
func deletionStarted() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.GetDeletionTimestamp().IsZero() != e.ObjectNew.GetDeletionTimestamp().IsZero()
		},
	}
}

// conditionsChanged lets through reports that change what the Engine's status says, and none of the many others.
func conditionsChanged() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok1 := e.ObjectOld.(*v1alpha1.NodeInspection)
			after, ok2 := e.ObjectNew.(*v1alpha1.NodeInspection)
			return !ok1 || !ok2 || isReady(before) != isReady(after) || isDetached(before) != isDetached(after) ||
				delivery(before) != delivery(after)
		},
	}
}
