package l7policy

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/recorder"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// FieldManager owns the fields of statuses.
const FieldManager = "meerkat-manager"

// parallel is how many statuses are written at once.
const parallel = 8

// writer writes statuses.
type writer struct {
	client   client.StatusClient
	recorder recorder.EventRecorder
	state    *state
	limit    flowcontrol.RateLimiter
	log      logr.Logger
	metrics  *metrics
}

// write is a status that is to be written.
type write struct {
	name       types.NamespacedName
	record     *record
	object     *v1alpha1.L7Policy
	have, want *v1alpha1.L7PolicyStatus
}

// urgency sorts: what was written longest ago comes first.
func (w *write) urgency(b write) int {
	return cmp.Or(w.record.written.Compare(b.record.written), cmp.Compare(w.name.String(), b.name.String()))
}

// all writes statuses, as many as the rate allows; the others are left for the next pass, as are those that fail.
func (w *writer) all(ctx context.Context, writes []write, now func() time.Time) {
	work := make(chan *write)
	var workers sync.WaitGroup
	for range min(parallel, len(writes)) {
		workers.Go(func() {
			for one := range work {
				if err := w.one(ctx, one, now()); err != nil {
					w.state.setDirty(one.name)
					if ctx.Err() == nil {
						w.log.Error(err, "status could not be written", "policy", one.name)
					}
				}
			}
		})
	}
	for i := range writes {
		if !w.limit.TryAccept() {
			w.state.setDirty(writes[i].name)
			continue
		}
		work <- &writes[i]
	}
	close(work)
	workers.Wait()
}

func (w *writer) one(ctx context.Context, one *write, now time.Time) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(one.want)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: map[string]any{"status": fields}}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("L7Policy"))
	u.SetNamespace(one.name.Namespace)
	u.SetName(one.name.Name)
	u.SetUID(one.object.UID) // another policy of that name is refused
	err = w.client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(FieldManager), client.ForceOwnership)
	w.metrics.writes.Inc()
	if apierrors.IsNotFound(err) {
		return nil // it was deleted, and the next pass over all policies sees so
	}
	if err != nil {
		return fmt.Errorf("writing the status of the L7Policy %s: %w", one.name, err)
	}
	if !sameCounts(one.have, one.want) {
		one.record.counted = now
	}
	one.record.last, one.record.version, one.record.written = one.want, u.GetResourceVersion(), now
	for _, e := range events(one.have, one.want) {
		w.recorder.Eventf(one.object, nil, e.kind, e.reason, e.action, "%s", cut(e.note, maxNote))
	}
	return nil
}
