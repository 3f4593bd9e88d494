package engine

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Reasons of the condition EventsDelivered.
const (
	reasonDelivered    = "Delivered"
	reasonNotDelivered = "NotDelivered"
)

// maxTold is how many nodes' own words about their outputs a status repeats: they are mostly the same.
const maxTold = 3

// undelivered is a node whose outputs do not take all events.
type undelivered struct{ node, message string }

// delivery is what a report says of outputs that do not take all events; empty when they do.
func delivery(report *v1alpha1.NodeInspection) string {
	c := meta.FindStatusCondition(report.Status.Conditions, v1alpha1.ConditionEventsDelivered)
	if c == nil || c.Status != metav1.ConditionFalse {
		return ""
	}
	return c.Message
}

// look notes what a node's report says of its outputs.
func (s *seen) look(node string, report *v1alpha1.NodeInspection) {
	if report == nil {
		return
	}
	if message := delivery(report); message != "" {
		s.undelivered = append(s.undelivered, undelivered{node, message})
	}
}

// setDelivery sets the condition EventsDelivered where the Engine has outputs, and takes it away where it has none. It is no part of
// Ready: traffic is inspected whether or not anybody hears of it.
func setDelivery(conditions *[]metav1.Condition, engine *v1alpha1.Engine, s seen) {
	if len(engine.Spec.Outputs) == 0 {
		meta.RemoveStatusCondition(conditions, v1alpha1.ConditionEventsDelivered)
		return
	}
	c := metav1.Condition{
		Type: v1alpha1.ConditionEventsDelivered, Status: metav1.ConditionTrue, Reason: reasonDelivered, ObservedGeneration: engine.Generation,
		Message: "The outputs take the alerts and verdicts of all nodes.",
	}
	if len(s.undelivered) > 0 {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reasonNotDelivered, undeliveredMessage(s.undelivered)
	}
	meta.SetStatusCondition(conditions, c)
}

func undeliveredMessage(all []undelivered) string {
	var parts, others []string
	told := map[string]bool{}
	for _, u := range all {
		if told[u.message] || len(told) == maxTold {
			others = append(others, u.node)
			continue
		}
		told[u.message] = true
		parts = append(parts, u.node+": "+u.message)
	}
	text := strings.Join(parts, "; ")
	if len(others) > 0 {
		text += fmt.Sprintf("; and of %s: %s", nodes(int32(len(others))), names(others)) //nolint:gosec // A cluster has fewer nodes than that.
	}
	const most = 8192
	return text[:min(len(text), most)]
}
