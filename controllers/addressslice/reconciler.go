package addressslice

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// reconciler writes the slices of one selector at a time.
type reconciler struct {
	client  client.Client
	board   *board
	options Options
	metrics *metrics
	now     func() time.Time
}

// Reconcile writes what has changed for the selector of that key. Slices that come to hold new peers are written before others
// are deleted.
func (r *reconciler) Reconcile(ctx context.Context, key string) (ctrl.Result, error) {
	w := r.board.work(key, r.options, r.now())
	if err := r.write(ctx, key, &w.changes); err != nil {
		r.board.undone(key, w)
		return ctrl.Result{}, err
	}
	if !w.since.IsZero() && len(w.create)+len(w.update)+len(w.remove) > 0 {
		r.metrics.delay.Observe(r.now().Sub(w.since).Seconds())
	}
	if w.last {
		r.board.finish(key)
	}
	return ctrl.Result{RequeueAfter: w.again}, nil
}

func (r *reconciler) write(ctx context.Context, key string, c *changes) error {
	var failed []error
	for _, slice := range c.create {
		failed = append(failed, r.wrote(key, "create", slice, r.client.Create(ctx, slice)))
	}
	for _, slice := range c.update {
		// This asks the API server to forget who owns which field of which peer, and not to keep account of it any more: that is
		// more than the slice itself, and would go to every node.
		slice.ManagedFields = []metav1.ManagedFieldsEntry{{}}
		failed = append(failed, r.wrote(key, "update", slice, r.client.Update(ctx, slice)))
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	for _, slice := range c.remove {
		// The slice that was looked at, and in that state: one that others have changed since is looked at again.
		only := client.Preconditions{UID: new(slice.UID), ResourceVersion: new(slice.ResourceVersion)}
		err := r.client.Delete(ctx, slice, only)
		r.metrics.writes.WithLabelValues("delete").Inc()
		if err != nil && !apierrors.IsNotFound(err) {
			failed = append(failed, fmt.Errorf("deleting the AddressSlice %s: %w", slice.Name, err))
			continue
		}
		r.board.removed(key, slice)
	}
	return errors.Join(failed...)
}

// wrote takes in the answer to a write.
func (r *reconciler) wrote(key, operation string, slice *v1alpha1.AddressSlice, err error) error {
	r.metrics.writes.WithLabelValues(operation).Inc()
	switch {
	case err == nil:
		r.board.wrote(key, slice)
		return nil
	case apierrors.IsNotFound(err):
		r.board.removed(key, slice)
	}
	return fmt.Errorf("writing the AddressSlice %s: %w", slice.Name, err)
}
