package engine

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/engine/render"
)

// fieldManager owns the fields of what the manager applies.
const fieldManager = client.FieldOwner("meerkat-manager")

// appliedSet is what was last applied, and what the API server made of it: while both are the same, there is nothing to send.
type appliedSet struct {
	sent       *unstructured.Unstructured
	uid        types.UID
	generation int64
}

// applyAll makes both DaemonSets what the Engine says. An error that only a person can mend is given as refused.
func (r *reconciler) applyAll(ctx context.Context, engine *v1alpha1.Engine) (refused, err error) {
	node, openvswitch := render.DaemonSets(engine, r.Images, r.Namespace)
	// Open vSwitch first: the agent waits for it.
	for _, ds := range []*appsv1.DaemonSet{openvswitch, node} {
		switch applyErr := r.apply(ctx, ds); {
		case applyErr == nil:
		case onlyAPersonCanHelp(applyErr):
			refused = errors.Join(refused, applyErr)
		default:
			err = errors.Join(err, applyErr)
		}
	}
	return refused, err
}

func (r *reconciler) apply(ctx context.Context, ds *appsv1.DaemonSet) error {
	wanted := render.Applied(ds)
	current := &appsv1.DaemonSet{}
	switch err := r.client.Get(ctx, client.ObjectKeyFromObject(ds), current); {
	case apierrors.IsNotFound(err):
	case err != nil:
		return err
	default:
		last := r.applied[ds.Name]
		if last.uid == current.UID && last.generation == current.Generation && equality.Semantic.DeepEqual(last.sent, wanted) {
			return nil
		}
	}
	answer := wanted.DeepCopy()
	err := r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(answer), fieldManager, client.ForceOwnership)
	if err != nil {
		delete(r.applied, ds.Name)
		return fmt.Errorf("DaemonSet %s cannot be written: %w", ds.Name, err)
	}
	r.applied[ds.Name] = appliedSet{sent: wanted, uid: answer.GetUID(), generation: answer.GetGeneration()}
	return nil
}
