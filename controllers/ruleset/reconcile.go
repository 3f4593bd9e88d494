package ruleset

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/fleet"
	"github.com/meerkat-dev/meerkat/controllers/ruleset/rollout"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

const (
	fieldManager = "meerkat-manager"

	// lookAgain is how often a rule set is looked at when nothing happens: agents fall silent without an event.
	lookAgain = time.Minute
)

// Reconcile implements reconcile.TypedReconciler.
func (r *reconciler) Reconcile(ctx context.Context, k key) (reconcile.Result, error) {
	s, err := r.get(ctx, k)
	if apierrors.IsNotFound(err) {
		r.forget(k)
		later, err := r.collect(ctx)
		if later { // when they are old enough
			return reconcile.Result{RequeueAfter: r.Keep}, err
		}
		return reconcile.Result{}, err
	}
	if err != nil || s.object.GetDeletionTimestamp() != nil {
		return reconcile.Result{}, err
	}
	status, next, err := r.look(ctx, s)
	if err != nil {
		return reconcile.Result{}, err
	}
	if err := r.writeStatus(ctx, s, status); err != nil {
		if apierrors.IsConflict(err) { // the cache is behind what was written last
			return reconcile.Result{RequeueAfter: r.Settle}, nil
		}
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	_, err = r.collect(ctx)
	return reconcile.Result{RequeueAfter: next}, err
}

// look works out what is so now: the status, and when to look again.
func (r *reconciler) look(ctx context.Context, s *set) (*v1alpha1.RuleSetStatus, time.Duration, error) {
	m := r.memoryOf(s.key)
	generation := s.object.GetGeneration()
	was := s.status.Rollout
	needed := was == nil || was.Generation != generation
	if !needed && was.Phase != v1alpha1.RolloutRefused {
		there, err := r.stored(ctx, was.Revision)
		if err != nil {
			return nil, 0, err
		}
		needed = !there
	}
	all, changed := r.read(ctx, s, m, needed)
	f := facts{generation: generation, before: s.status, readings: all, unmade: changed}
	status := s.status.DeepCopy()
	status.ObservedGeneration = generation

	in := rollout.Input{Key: s.key.String(), Spec: s.spec.Rollout, Now: r.Now()}
	if was != nil {
		in.Newest, in.Generation = was.Revision, was.Generation
	}
	var counts map[string]int
	if files, whole := filesOf(all); changed && whole {
		built, err := r.made(ctx, s, m, all, files)
		if err != nil {
			return nil, 0, err
		}
		for _, fault := range built.faults {
			f.faults = append(f.faults, fault)
		}
		if built.revision != "" {
			f.unmade = false
			in.Newest, in.Generation, in.Refused, counts = built.revision, generation, built.refused, built.counts.BySource
			if was == nil || was.Revision != built.revision || status.Rules == nil {
				status.Rules = &v1alpha1.RuleCounts{
					Loaded: int32(built.counts.Enabled), Failed: int32(built.counts.Refused), Disabled: int32(built.counts.Disabled),
				}
				status.Failures = built.failures
			}
		}
	}
	status.Sources = sourceStatuses(s, all, counts)

	var err error
	if in.Nodes, err = r.nodes(ctx, s.key); err != nil {
		return nil, 0, err
	}
	state, next := rollout.Step(rollout.StateOf(s.status), in)
	status.Revision, status.Previous, status.Rollout = state.Revision, state.Previous, state.Rollout
	takeVerdict(status, was, in.Nodes, m)
	f.after, f.nodes = status, in.Nodes
	status.Conditions = f.conditions(r.Now())
	return status, soonest(next, all), nil
}

// made returns the revision of the contents, which is built once.
func (r *reconciler) made(ctx context.Context, s *set, m *memory, all []reading, files []signatures.File) (*made, error) {
	inputs := inputsOf(s, all)
	if m.made != nil && m.inputs == inputs {
		there := m.made.revision == "" || m.made.refused != "" // then nothing was stored
		if !there {
			var err error
			if there, err = r.stored(ctx, m.made.revision); err != nil {
				return nil, err
			}
		}
		if there {
			return m.made, nil
		}
	}
	built, err := r.build(ctx, s, files)
	if err != nil {
		return nil, err
	}
	m.inputs, m.made = inputs, built
	return built, nil
}

// takeVerdict tells what the engine has said of a revision that has just been judged, and of each rule that it refuses where it is from.
func takeVerdict(status *v1alpha1.RuleSetStatus, was *v1alpha1.RolloutStatus, nodes []rollout.Node, m *memory) {
	r := status.Rollout
	judged := r != nil && r.Phase != v1alpha1.RolloutValidating && (was == nil || was.Revision != r.Revision || was.Phase == v1alpha1.RolloutValidating)
	if !judged || status.Rules == nil {
		return
	}
	var v *v1alpha1.NodeValidation
	for i := range nodes {
		n := nodes[i].Report
		if n == nil || n.Validation == nil || n.Validation.Revision != r.Revision || n.Validation.Error != "" {
			continue
		}
		if v == nil || was != nil && nodes[i].Name == was.Validator {
			v = n.Validation
		}
	}
	if v == nil {
		return
	}
	status.Rules.Loaded, status.Rules.Failed, status.Rules.Skipped = v.Loaded, v.Failed, v.Skipped
	status.Failures = nil
	for _, f := range v.Failures {
		origin := signatures.Origin{File: "the revision's own file", Line: int(f.Line), SID: uint32(max(f.SID, 0))}
		if m.made != nil && m.made.revision == r.Revision && f.Line >= 1 && int(f.Line) <= len(m.made.lines) {
			origin = m.made.lines[f.Line-1]
		}
		status.Failures = append(status.Failures, signatures.FailureOf(origin, f.Reason))
	}
}

// soonest is when to look again.
func soonest(next time.Duration, all []reading) time.Duration {
	if next == 0 || next > lookAgain {
		next = lookAgain
	}
	for i := range all {
		if all[i].next > 0 && all[i].next < next {
			next = all[i].next
		}
	}
	return next
}

// writeStatus writes the status when it has changed, and tells of what is worth telling. A status that is made of one that the cache had
// too late is a conflict.
func (r *reconciler) writeStatus(ctx context.Context, s *set, status *v1alpha1.RuleSetStatus) error {
	if equality.Semantic.DeepEqual(s.status, status) {
		return nil
	}
	before := s.object.DeepCopyObject().(client.Object)
	was := s.status.DeepCopy()
	*s.status = *status
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.client.Status().Patch(ctx, s.object, patch, client.FieldOwner(fieldManager)); err != nil {
		return err
	}
	for _, e := range newsOf(was, status) {
		r.events.Eventf(s.object, nil, e.kind, e.reason, e.action, "%s", fleet.Cut(e.note, maxNote))
	}
	return nil
}
