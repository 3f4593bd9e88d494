package l7policy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/node"
)

// known is all that is known of a policy: what its status is made of.
type known struct {
	generation int64
	// findings are plan.Check's conditions, for that generation.
	findings []metav1.Condition
	engine   engineState
	// nodes are those with selected Pods, sorted by name.
	nodes  []nodeView
	totals totals
	// before is the status as it is, for the times of conditions.
	before v1alpha1.L7PolicyStatus
	now    time.Time
}

// engineState is what the Engine says of nodes.
type engineState struct {
	exists  bool
	leaving bool
	// selector is its nodeSelector as text; empty without one.
	selector string
}

// nodeView is a node with Pods that the policy selects, as far as the policy goes.
type nodeView struct {
	name string
	// down says that the Node object is not there, or says that the node is not ready.
	down bool
	// covered says that the Engine is meant for the node.
	covered bool
	// silent says that the last report is too old, or that there has been none for as long.
	silent bool
	// joined says that Pods have come to the node only just now.
	joined bool
	// report is what the node says of the policy; nil for nothing.
	report *v1alpha1.NodePolicy
}

// totals are a policy's counts.
type totals struct {
	denied, audited int64
	last            time.Time
}

// aggregate works out a policy's status. It is pure.
func aggregate(k known) v1alpha1.L7PolicyStatus {
	n := sortNodes(k)
	s := v1alpha1.L7PolicyStatus{
		ObservedGeneration: k.generation,
		Nodes:              n.counts(),
		Denied:             k.totals.denied,
		Audited:            k.totals.audited,
	}
	if !k.totals.last.IsZero() {
		s.LastDenied = new(metav1.NewTime(k.totals.last))
	}
	programmed, degraded := n.programmed(k), n.degraded()
	all := append(slices.Clone(k.findings), programmed, degraded, n.ready(k, programmed))
	if stalled, is := n.stalled(k); is {
		all = append(all, stalled)
	}
	for i := range all {
		all[i].ObservedGeneration = k.generation
		all[i].Message = cut(all[i].Message, maxMessage)
		all[i].LastTransitionTime = since(&all[i], k)
	}
	s.Conditions = all
	return s
}

// since returns since when a condition has its status.
func since(c *metav1.Condition, k known) metav1.Time {
	if was := find(k.before.Conditions, c.Type); was != nil && was.Status == c.Status {
		return was.LastTransitionTime
	}
	return metav1.NewTime(k.now.Truncate(time.Second))
}

// find returns the condition of that type, or nil.
func find(all []metav1.Condition, kind string) *metav1.Condition {
	if i := slices.IndexFunc(all, func(c metav1.Condition) bool { return c.Type == kind }); i >= 0 {
		return &all[i]
	}
	return nil
}

func condition(kind string, status metav1.ConditionStatus, reason, format string, args ...any) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// programmed tells whether all nodes do what the policy says.
func (n *sorted) programmed(k known) metav1.Condition {
	is := func(status metav1.ConditionStatus, reason, format string, args ...any) metav1.Condition {
		return condition(v1alpha1.ConditionProgrammed, status, reason, format, args...)
	}
	total := n.total()
	applied := fmt.Sprintf("%d of %s the policy", len(n.applying), verb(total, "applies", "apply"))
	switch {
	case total == 0 && len(n.down) > 0:
		return is(metav1.ConditionTrue, ReasonNoPods, "The policy selects Pods only on nodes that are down: %s.", names(n.down))
	case total == 0:
		return is(metav1.ConditionTrue, ReasonNoPods, "The policy selects no Pod at present, so there is nothing to program.")
	case !k.engine.exists:
		return is(metav1.ConditionFalse, ReasonNoEngine, "The cluster has no Engine, so no policy is enforced: create the Engine %s.", v1alpha1.EngineName)
	case k.engine.leaving:
		return is(metav1.ConditionFalse, ReasonNoEngine, "The Engine %s is being deleted, and policies are enforced no more.", v1alpha1.EngineName)
	case len(n.applying) == total:
		return is(metav1.ConditionTrue, ReasonProgrammed, "%s.%s", applied, n.aside())
	}
	text, reason := applied+".", ReasonPending
	if len(n.waiting) > 0 {
		text += fmt.Sprintf(" Waiting for %s.", names(n.waiting))
		if !slices.ContainsFunc(n.waiting, func(v *nodeView) bool { return !v.silent }) {
			reason = ReasonNodeNotReporting
			text += " Look at Meerkat's Pods there."
		}
	}
	if len(n.failing) > 0 {
		reason = n.failing[0].report.Reason
		text += " " + tell(n.failing, func(v *nodeView) string { return v.report.Reason + ": " + v.report.Message })
	}
	if len(n.uncovered) > 0 {
		if reason != node.ReasonRulesRefused {
			reason = ReasonNodeNotCovered
		}
		text += fmt.Sprintf(" The Engine's nodeSelector {%s} leaves out %s: give these nodes the labels, widen the selector, or keep the policy's Pods away from them.",
			k.engine.selector, names(n.uncovered))
	}
	return is(metav1.ConditionFalse, cmp.Or(reason, ReasonPending), "%s%s", text, n.aside())
}

// aside tells of nodes that are not waited for.
func (n *sorted) aside() string {
	if len(n.down) == 0 {
		return ""
	}
	return fmt.Sprintf(" Not counted, since down: %s.", names(n.down))
}

// degraded tells of nodes that need a look.
func (n *sorted) degraded() metav1.Condition {
	if len(n.troubled) == 0 {
		return condition(v1alpha1.ConditionDegraded, metav1.ConditionFalse, ReasonNodesHealthy, "No node reports trouble.")
	}
	return condition(v1alpha1.ConditionDegraded, metav1.ConditionTrue, trouble(n.troubled[0]), "%s", tell(n.troubled, func(v *nodeView) string {
		switch {
		case v.report != nil && v.report.Degraded != "" && !v.silent:
			return v.report.Degraded + ": " + v.report.DegradedMessage
		case v.report != nil:
			return ReasonNodeNotReporting + ": the agent has not reported for a while; what it has programmed stays in force, but nobody watches over it. Look at its Pod"
		}
		return ReasonNodeNotReporting + ": the agent reports nothing. Look at its Pod"
	}))
}

// trouble is a reason for Degraded.
func trouble(v *nodeView) string {
	if v.silent || v.report == nil {
		return ReasonNodeNotReporting
	}
	return v.report.Degraded
}

// ready summarises.
func (n *sorted) ready(k known, programmed metav1.Condition) metav1.Condition {
	is := func(status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return condition(v1alpha1.ConditionReady, status, reason, "%s", message)
	}
	if a := find(k.findings, v1alpha1.ConditionAccepted); a != nil && a.Status == metav1.ConditionFalse {
		return is(metav1.ConditionFalse, a.Reason, a.Message)
	}
	if programmed.Status != metav1.ConditionTrue {
		return is(metav1.ConditionFalse, programmed.Reason, programmed.Message)
	}
	if i := slices.IndexFunc(n.troubled, func(v *nodeView) bool { return v.silent || !v.report.Enforced }); i >= 0 {
		return is(metav1.ConditionFalse, trouble(n.troubled[i]), n.degraded().Message)
	}
	if len(n.idle) > 0 {
		return is(metav1.ConditionFalse, ReasonNotEnforced,
			tell(n.idle, func(*nodeView) string { return "does not judge packets by the policy at present" }))
	}
	text := "The policy is enforced on " + verb(n.total(), "", "") + "."
	if n.total() == 0 {
		text = programmed.Message
	}
	if r := find(k.findings, v1alpha1.ConditionResolvedRefs); r != nil && r.Status == metav1.ConditionFalse {
		text += " Not all it refers to is there: see ResolvedRefs."
	}
	return is(metav1.ConditionTrue, ReasonReady, text)
}

// stalled is true when only a change of the policy helps.
func (n *sorted) stalled(k known) (metav1.Condition, bool) {
	if a := find(k.findings, v1alpha1.ConditionAccepted); a != nil && a.Status == metav1.ConditionFalse {
		return condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, a.Reason, "%s", a.Message), true
	}
	var refusing []*nodeView
	for _, v := range n.failing {
		if v.report.Reason == node.ReasonRulesRefused {
			refusing = append(refusing, v)
		}
	}
	if len(refusing) == 0 {
		return metav1.Condition{}, false
	}
	return condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, node.ReasonRulesRefused, "%s",
		tell(refusing, func(v *nodeView) string { return v.report.Message })), true
}
