package ruleset

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/fleet"
	"github.com/meerkat-dev/meerkat/dataplane/revision"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

// made is a revision that was built.
type made struct {
	revision string
	// faults are those of the spec: then there is no revision.
	faults field.ErrorList
	// refused says why Meerkat itself refuses it; empty when it does not.
	refused  string
	failures []v1alpha1.RuleFailure
	counts   signatures.Counts
	// lines say where each line of its rules is from.
	lines []signatures.Origin
}

// build makes the revision of the files, and stores it unless it is refused.
func (r *reconciler) build(ctx context.Context, s *set, files []signatures.File) (*made, error) {
	result, faults := signatures.Build(files, signatures.OptionsOf(s.spec))
	faults = append(faults, signatures.CheckVariables(field.NewPath("spec", "variables"), s.spec.Variables)...)
	if len(faults) > 0 {
		return &made{faults: faults}, nil
	}
	m := &made{counts: result.Counts, failures: result.Refused, lines: result.Lines}
	if n := result.Counts.Refused; n > 0 {
		// Named by what is refused too: the rules that are left may be those of a revision that is good.
		for i := range result.Refused {
			result.Rules = fmt.Appendf(result.Rules, "# %+v\n", result.Refused[i])
		}
		m.revision = signatures.Revision(result, s.spec.Variables)
		m.refused = fmt.Sprintf("%s cannot be loaded: see failures. Correct or disable them.", fleet.Plural(n, "rule", "rules"))
		return m, nil
	}
	m.revision = signatures.Revision(result, s.spec.Variables)
	objects, err := revision.Objects(revision.Revision{Name: m.revision, Rules: result.Rules, Variables: s.spec.Variables})
	if large, ok := errors.AsType[*revision.TooLargeError](err); ok {
		m.refused = strings.ToUpper(large.Error()[:1]) + large.Error()[1:] + "."
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	for _, object := range objects {
		if err := r.store(ctx, object); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// store creates a RuleSetRevision, unless it is there.
func (r *reconciler) store(ctx context.Context, object *v1alpha1.RuleSetRevision) error {
	err := r.client.Create(ctx, object, client.FieldOwner(fieldManager))
	if err == nil {
		return nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("storing the RuleSetRevision %s: %w", object.Name, err)
	}
	// Another rule set, or this one before, made the same. The cache may not know it yet; its name is its hash all the same.
	there := revisionMetadata()
	if err := r.client.Get(ctx, client.ObjectKeyFromObject(object), there); err != nil {
		return client.IgnoreNotFound(err)
	}
	if sum := there.Annotations[revision.AnnotationSHA256]; sum != object.SHA256 {
		return fmt.Errorf("the RuleSetRevision %s holds other rules, with the hash %s: delete it, and the manager writes it again", object.Name, sum)
	}
	return nil
}

// stored tells whether a revision is there, as far as the cache knows.
func (r *reconciler) stored(ctx context.Context, name string) (bool, error) {
	err := r.client.Get(ctx, client.ObjectKey{Name: name}, revisionMetadata())
	return err == nil, client.IgnoreNotFound(err)
}

func revisionMetadata() *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("RuleSetRevision"))
	return o
}

// collect deletes the revisions that no rule set runs, rolls out or would go back to, some time after they were made. It
// says whether some are left for later.
func (r *reconciler) collect(ctx context.Context) (later bool, err error) {
	needed := map[string]bool{}
	var sets v1alpha1.RuleSetList
	var clusterSets v1alpha1.ClusterRuleSetList
	for _, list := range []client.ObjectList{&sets, &clusterSets} {
		if err := r.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return false, fmt.Errorf("reading rule sets: %w", err)
		}
	}
	need := func(s *v1alpha1.RuleSetStatus) {
		needed[s.Revision], needed[s.Previous] = true, true
		if s.Rollout != nil {
			needed[s.Rollout.Revision] = true
		}
	}
	for i := range sets.Items {
		need(&sets.Items[i].Status)
	}
	for i := range clusterSets.Items {
		need(&clusterSets.Items[i].Status)
	}
	all := &metav1.PartialObjectMetadataList{}
	all.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("RuleSetRevisionList"))
	if err := r.client.List(ctx, all); err != nil {
		return false, fmt.Errorf("reading RuleSetRevisions: %w", err)
	}
	var errs []error
	for i := range all.Items {
		o := &all.Items[i]
		if needed[o.Labels[revision.LabelRevision]] {
			continue
		}
		if r.Now().Sub(o.CreationTimestamp.Time) < r.Keep { // it may be stored for a status that is not written yet
			later = true
			continue
		}
		o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("RuleSetRevision"))
		if err := r.client.Delete(ctx, o); client.IgnoreNotFound(err) != nil {
			errs = append(errs, fmt.Errorf("deleting the RuleSetRevision %s: %w", o.Name, err))
		}
	}
	return later, errors.Join(errs...)
}
