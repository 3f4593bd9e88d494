package sidecar

import (
	"context"
	"time"

	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/fleet"
	"github.com/meerkat-dev/meerkat/controllers/sidecar/inject"
)

// ConfigMaps are written by name and never listed or watched: nobody's others are seen.
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;create;patch;delete
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=trafficinspections;rulesets;clusterrulesets,verbs=list;watch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=rulesetrevisions,verbs=get
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// lookAgain is how often ConfigMaps are looked at that nobody has any reason to have changed.
const lookAgain = 10 * time.Minute

// workers is how many inspections are worked on at once: one may take tens of MiB of memory.
const workers = 2

// Setup adds the controller to the manager. It acts only on the leader.
func Setup(mgr ctrl.Manager) error {
	r := &reconciler{client: mgr.GetClient(), live: mgr.GetAPIReader(), events: mgr.GetEventRecorder("meerkat-manager")}
	return ctrl.NewControllerManagedBy(mgr).
		Named("sidecar").
		For(&v1alpha1.TrafficInspection{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.RuleSet{}, r.onSets(), builder.WithPredicates(otherRevision())).
		Watches(&v1alpha1.ClusterRuleSet{}, r.onSets(), builder.WithPredicates(otherRevision())).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
}

// SetupWebhook adds the webhook of Pods to the manager, on every replica. image is the engine's where the Engine names none, and level
// what a namespace without a label enforces.
func SetupWebhook(mgr ctrl.Manager, image string, level inject.Level) {
	mgr.GetWebhookServer().Register(inject.Path, &admission.Webhook{Handler: &inject.Handler{Reader: mgr.GetCache(), Image: image, Level: level}})
}

type reconciler struct {
	client client.Client // reads from the cache
	live   client.Reader // reads past it
	events events.EventRecorder
}

// onSets looks at the inspections that name a rule set.
func (r *reconciler) onSets() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		kind := "RuleSet"
		if _, cluster := o.(*v1alpha1.ClusterRuleSet); cluster {
			kind = "ClusterRuleSet"
		}
		var all v1alpha1.TrafficInspectionList
		if err := r.client.List(ctx, &all, client.InNamespace(o.GetNamespace()), client.UnsafeDisableDeepCopy); err != nil {
			logf.FromContext(ctx).Error(err, "Cannot read TrafficInspections")
		}
		var requests []reconcile.Request
		for i := range all.Items {
			if n := &all.Items[i]; n.Spec.Placement == v1alpha1.PlacementSidecar && fleet.Uses(n, kind, o.GetNamespace(), o.GetName()) {
				requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(n)})
			}
		}
		return requests
	})
}

// otherRevision lets through that nodes are to run another revision.
func otherRevision() predicate.Predicate {
	revision := func(o client.Object) string {
		switch o := o.(type) {
		case *v1alpha1.RuleSet:
			return o.Status.Revision
		case *v1alpha1.ClusterRuleSet:
			return o.Status.Revision
		}
		return ""
	}
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return revision(e.ObjectOld) != revision(e.ObjectNew) }}
}
