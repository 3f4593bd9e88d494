package engine

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// TestEventsDelivered has nodes tell of their outputs: the Engine's status repeats what they say, and not for each node.
func TestEventsDelivered(t *testing.T) {
	report := func(status metav1.ConditionStatus, message string) *v1alpha1.NodeInspection {
		r := &v1alpha1.NodeInspection{}
		meta.SetStatusCondition(&r.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionEventsDelivered, Status: status, Message: message})
		return r
	}
	engine := &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Generation: 7}}
	engine.Spec.Outputs = v1alpha1.EventOutputs{{Name: "siem"}}
	for name, c := range map[string]struct {
		reports map[string]*v1alpha1.NodeInspection
		status  metav1.ConditionStatus
		message string
	}{
		"nobody has said anything": {nil, metav1.ConditionTrue, "The outputs take the alerts and verdicts of all nodes."},
		"all is well": {map[string]*v1alpha1.NodeInspection{"a": report(metav1.ConditionTrue, ""), "b": nil}, metav1.ConditionTrue,
			"The outputs take the alerts and verdicts of all nodes."},
		"the same on two nodes": {map[string]*v1alpha1.NodeInspection{
			"a": report(metav1.ConditionFalse, "output siem: away"), "b": report(metav1.ConditionFalse, "output siem: away"), "c": report(metav1.ConditionTrue, ""),
		}, metav1.ConditionFalse, "a: output siem: away; and of 1 node: b"},
		"five things on five nodes": {map[string]*v1alpha1.NodeInspection{
			"a": report(metav1.ConditionFalse, "1"), "b": report(metav1.ConditionFalse, "2"), "c": report(metav1.ConditionFalse, "3"),
			"d": report(metav1.ConditionFalse, "4"), "e": report(metav1.ConditionFalse, "5"),
		}, metav1.ConditionFalse, "a: 1; b: 2; c: 3; and of 2 nodes: d, e"},
	} {
		var s seen
		for node := range strings.SplitSeq("abcde", "") {
			s.look(node, c.reports[node])
		}
		got := meta.FindStatusCondition(summarize(engine, s).Conditions, v1alpha1.ConditionEventsDelivered)
		if got == nil || got.Status != c.status || got.Message != c.message || got.ObservedGeneration != 7 {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	engine.Status = summarize(engine, seen{undelivered: []undelivered{{"a", "away"}}})
	engine.Spec.Outputs = nil
	if got := meta.FindStatusCondition(summarize(engine, seen{}).Conditions, v1alpha1.ConditionEventsDelivered); got != nil {
		t.Errorf("without outputs there is %+v", got)
	}
}
