package ruleset

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// maxNote is how long an event's text may be, in bytes.
const maxNote = 1000

// news is what a change of status is worth telling.
type news struct{ kind, reason, action, note string }

// newsOf returns what is worth telling: that a revision is refused, rolled back, tried on canaries, or everywhere; and that a source
// cannot be read, or can again.
func newsOf(was, is *v1alpha1.RuleSetStatus) []news {
	var all []news
	ready := meta.FindStatusCondition(is.Conditions, v1alpha1.ConditionReady)
	if r, before := is.Rollout, was.Rollout; r != nil && ready != nil && (before == nil || before.Revision != r.Revision || before.Phase != r.Phase) {
		switch r.Phase {
		case v1alpha1.RolloutRefused, v1alpha1.RolloutRolledBack:
			all = append(all, news{corev1.EventTypeWarning, r.Reason, "RollOut", r.Message})
		case v1alpha1.RolloutDone, v1alpha1.RolloutCanary:
			all = append(all, news{corev1.EventTypeNormal, string(r.Phase), "RollOut", ready.Message})
		case v1alpha1.RolloutValidating, v1alpha1.RolloutRolling:
		}
	}
	resolved, before := meta.FindStatusCondition(is.Conditions, v1alpha1.ConditionResolvedRefs), meta.FindStatusCondition(was.Conditions, v1alpha1.ConditionResolvedRefs)
	switch {
	case resolved == nil:
	case resolved.Status == metav1.ConditionFalse && (before == nil || before.Status != resolved.Status):
		all = append(all, news{corev1.EventTypeWarning, resolved.Reason, "Read", resolved.Message})
	case resolved.Status == metav1.ConditionTrue && before != nil && before.Status == metav1.ConditionFalse:
		all = append(all, news{corev1.EventTypeNormal, resolved.Reason, "Read", resolved.Message})
	}
	accepted, before := meta.FindStatusCondition(is.Conditions, v1alpha1.ConditionAccepted), meta.FindStatusCondition(was.Conditions, v1alpha1.ConditionAccepted)
	if accepted != nil && accepted.Status == metav1.ConditionFalse && (before == nil || before.Message != accepted.Message) {
		all = append(all, news{corev1.EventTypeWarning, accepted.Reason, "Check", accepted.Message})
	}
	return all
}
