package l7policy

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// maxNote is how long an event's text may be, in bytes.
const maxNote = 1000

// Actions of events.
const (
	ActionProgram = "Program" // of events about Programmed
	ActionWatch   = "Watch"   // about Degraded
	ActionCheck   = "Check"   // about Stalled
)

// event is what a change of status is worth telling.
type event struct{ kind, reason, action, note string }

// events returns what is worth telling of a change: the turns of Programmed, Degraded and Stalled. That nodes are waited for is
// not: it comes with every change and passes.
func events(have, want *v1alpha1.L7PolicyStatus) []event {
	var all []event
	tell := func(kind, action string, c *metav1.Condition) {
		all = append(all, event{kind, c.Reason, action, c.Message})
	}
	if was, is := pair(have, want, v1alpha1.ConditionStalled); is != nil && (was == nil || was.Reason != is.Reason) {
		tell(corev1.EventTypeWarning, ActionCheck, is)
	}
	switch was, is := pair(have, want, v1alpha1.ConditionProgrammed); {
	case is == nil:
	case is.Status == metav1.ConditionTrue:
		if was == nil || was.Status != is.Status || was.ObservedGeneration != is.ObservedGeneration {
			tell(corev1.EventTypeNormal, ActionProgram, is)
		}
	case is.Reason != ReasonPending && (was == nil || was.Status == metav1.ConditionTrue || was.Reason != is.Reason):
		tell(corev1.EventTypeWarning, ActionProgram, is)
	}
	switch was, is := pair(have, want, v1alpha1.ConditionDegraded); {
	case is == nil:
	case is.Status == metav1.ConditionTrue && (was == nil || was.Status != is.Status || was.Reason != is.Reason):
		tell(corev1.EventTypeWarning, ActionWatch, is)
	case is.Status == metav1.ConditionFalse && was != nil && was.Status == metav1.ConditionTrue:
		tell(corev1.EventTypeNormal, ActionWatch, is)
	}
	return all
}

func pair(have, want *v1alpha1.L7PolicyStatus, kind string) (was, is *metav1.Condition) {
	return find(have.Conditions, kind), find(want.Conditions, kind)
}
