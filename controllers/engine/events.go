package engine

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// maxNote is the longest note of an event that the API server takes, in bytes.
const maxNote = 1024

// tellTransitions writes an event for each condition whose status changed, and none for new numbers in a message.
func (r *reconciler) tellTransitions(engine *v1alpha1.Engine, before, after []metav1.Condition) {
	for _, c := range after {
		old := meta.FindStatusCondition(before, c.Type)
		if old != nil && old.Status == c.Status || old == nil && !worthTelling(c) {
			continue
		}
		kind := corev1.EventTypeNormal
		if c.Type == v1alpha1.ConditionStalled && c.Status == metav1.ConditionTrue || c.Reason == reasonFailing || c.Reason == reasonNoNodes ||
			c.Reason == reasonNotDelivered {
			kind = corev1.EventTypeWarning
		}
		r.tell(engine, kind, c.Reason, "Observe", c.Message)
	}
}

// worthTelling tells which conditions are news when they are written for the first time: what a newcomer expects anyway is none.
func worthTelling(c metav1.Condition) bool {
	switch c.Type {
	case v1alpha1.ConditionStalled:
		return c.Status == metav1.ConditionTrue
	case v1alpha1.ConditionEventsDelivered:
		return c.Status == metav1.ConditionFalse
	case v1alpha1.ConditionReady:
		return c.Reason != reasonStarting
	}
	return false
}

func (r *reconciler) tell(engine *v1alpha1.Engine, kind, reason, action, note string) {
	if note == "" {
		note = reason
	}
	if len(note) > maxNote {
		note = note[:maxNote-3] + "..."
	}
	r.events.Eventf(engine, nil, kind, reason, action, "%s", note)
}
