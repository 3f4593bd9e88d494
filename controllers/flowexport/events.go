package flowexport

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

// newsOf returns what is worth telling of a change: the turns of Stalled, Programmed and Degraded, as package l7policy does. That nodes are
// waited for is not: it comes with every change and passes.
func newsOf(was, is []metav1.Condition) []news {
	var all []news
	for _, watched := range []struct {
		condition, action string
		good              metav1.ConditionStatus // what it is when all is well
	}{
		{v1alpha1.ConditionStalled, "Check", metav1.ConditionFalse},
		{v1alpha1.ConditionProtocolNotTracked, "Check", metav1.ConditionFalse},
		{v1alpha1.ConditionProgrammed, "Program", metav1.ConditionTrue},
		{v1alpha1.ConditionDegraded, "Watch", metav1.ConditionFalse},
	} {
		before, now := meta.FindStatusCondition(was, watched.condition), meta.FindStatusCondition(is, watched.condition)
		switch {
		case now == nil, before != nil && before.Status == now.Status && before.Reason == now.Reason:
		case now.Status != watched.good && now.Reason != ReasonPending:
			all = append(all, news{corev1.EventTypeWarning, now.Reason, watched.action, now.Message})
		case now.Status == watched.good && (before != nil && before.Status != now.Status || before == nil && watched.condition == v1alpha1.ConditionProgrammed):
			all = append(all, news{corev1.EventTypeNormal, now.Reason, watched.action, now.Message})
		}
	}
	return all
}
