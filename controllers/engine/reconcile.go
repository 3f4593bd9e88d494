package engine

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Finalizer holds an Engine that is being deleted until its nodes are as they were found.
const Finalizer = "inspection.meerkat.dev/detach"

// lookAgain is how often the reports' age is looked at, when nothing happens.
const lookAgain = time.Minute

// Reconcile implements reconcile.Reconciler.
func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	engine := &v1alpha1.Engine{}
	if err := r.client.Get(ctx, request.NamespacedName, engine); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !engine.DeletionTimestamp.IsZero() {
		return r.detach(ctx, engine)
	}
	if err := r.hold(ctx, engine); err != nil {
		return reconcile.Result{}, err
	}
	refused, err := r.applyAll(ctx, engine)
	if err != nil {
		return reconcile.Result{}, err
	}
	seen, err := r.look(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	seen.refused = refused
	if err := r.writeStatus(ctx, engine, summarize(engine, seen)); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: lookAgain}, nil
}

// hold puts the finalizer on the Engine, before anything is on nodes.
func (r *reconciler) hold(ctx context.Context, engine *v1alpha1.Engine) error {
	before := engine.DeepCopy()
	if !controllerutil.AddFinalizer(engine, Finalizer) {
		return nil
	}
	// With the resource version: a list of finalizers is written as a whole, and another's must not get lost.
	return client.IgnoreNotFound(r.client.Patch(ctx, engine, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
}

// letGo takes the finalizer away.
func (r *reconciler) letGo(ctx context.Context, engine *v1alpha1.Engine) error {
	before := engine.DeepCopy()
	if !controllerutil.RemoveFinalizer(engine, Finalizer) {
		return nil
	}
	err := r.client.Patch(ctx, engine, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	return client.IgnoreNotFound(err)
}

// writeStatus writes the status when it changed, and tells of transitions.
func (r *reconciler) writeStatus(ctx context.Context, engine *v1alpha1.Engine, status v1alpha1.EngineStatus) error {
	if equality.Semantic.DeepEqual(engine.Status, status) {
		return nil
	}
	before := engine.DeepCopy()
	engine.Status = status
	if err := r.client.Status().Patch(ctx, engine, client.MergeFrom(before)); err != nil {
		return client.IgnoreNotFound(err)
	}
	r.tellTransitions(engine, before.Status.Conditions, status.Conditions)
	return nil
}

// onlyAPersonCanHelp tells errors that come again with each attempt until somebody changes something.
func onlyAPersonCanHelp(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err)
}
