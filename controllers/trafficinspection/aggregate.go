package trafficinspection

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/fleet"
)

// Reasons of conditions, beside those that nodes report.
const (
	ReasonAccepted     = "Accepted"
	ReasonInvalid      = "Invalid"
	ReasonResolvedRefs = "ResolvedRefs"
	// ReasonRuleSetNotFound goes with ResolvedRefs=False and Ready=False: a rule set that the inspection names does not exist.
	ReasonRuleSetNotFound = "RuleSetNotFound"
	ReasonProgrammed      = "Programmed"
	// ReasonNoPods goes with Programmed=True: no Pod is selected.
	ReasonNoPods = "NoPods"
	// ReasonPending goes with Programmed=False: nodes have not reported on the present generation yet.
	ReasonPending        = "Pending"
	ReasonNoEngine       = "NoEngine"
	ReasonNodeNotCovered = "NodeNotCovered"
	// ReasonNodeNotReporting goes with Degraded=True and Ready=False: a node's report is old, or there is none.
	ReasonNodeNotReporting = "NodeNotReporting"
	// ReasonNotInspected goes with Ready=False: a node that does what the inspection says does not look at the traffic at present.
	ReasonNotInspected = "NotInspected"
	ReasonNodesHealthy = "NodesHealthy"
	ReasonReady        = "Ready"
	// ReasonRulesRefused is what nodes report when an engine does not take the rules.
	ReasonRulesRefused = "RulesRefused"
)

const (
	// maxMessage is the length of a condition's message, in bytes, that reads well.
	maxMessage = 4096
	maxFailing = 10
)

// known is all that is known of an inspection.
type known struct {
	generation int64
	// faults are what is wrong with the spec, and missing the rule sets that do not exist.
	faults, missing []string
	engine          bool // there is one, and it stays
	// nodes are those with selected Pods, sorted by name.
	nodes  []view
	before *v1alpha1.TrafficInspectionStatus
	now    time.Time
}

// view is a node with selected Pods, as far as the inspection goes.
type view struct {
	name string
	// down says that the Node is not there, or not ready, and covered that the Engine is meant for it.
	down, covered bool
	// silent says that its agent has not reported of late.
	silent bool
	report *v1alpha1.NodeTrafficInspection
}

// sorted are the nodes by what they are at.
type sorted struct {
	all, applying, waiting, failing, uncovered, down []*view
	troubled                                         []*view
}

func (k *known) sort() *sorted {
	s := &sorted{}
	for i := range k.nodes {
		v := &k.nodes[i]
		if v.down && (v.silent || v.report == nil) {
			s.down = append(s.down, v)
			continue
		}
		s.all = append(s.all, v)
		spoken := v.report != nil && v.report.ObservedGeneration == k.generation
		switch {
		case !v.covered && k.engine:
			s.uncovered = append(s.uncovered, v)
			continue
		case spoken && v.report.Programmed:
			s.applying = append(s.applying, v)
		case spoken:
			s.failing = append(s.failing, v)
		default:
			s.waiting = append(s.waiting, v)
		}
		if k.engine && (v.silent || v.report != nil && v.report.Degraded != "" || spoken && v.report.Programmed && !v.report.Inspected) {
			s.troubled = append(s.troubled, v)
		}
	}
	slices.SortStableFunc(s.failing, func(a, b *view) int { return rank(a) - rank(b) })
	return s
}

// rank puts what only a person can mend first.
func rank(v *view) int {
	if v.report.Reason == ReasonRulesRefused {
		return 0
	}
	return 1
}

// aggregate works out an inspection's status but for its counts. It is pure.
func aggregate(k *known) v1alpha1.TrafficInspectionStatus {
	n := k.sort()
	status := v1alpha1.TrafficInspectionStatus{
		ObservedGeneration: k.generation, Nodes: &v1alpha1.NodeCounts{Desired: int32(len(n.all)), Programmed: int32(len(n.applying))},
	}
	for _, v := range slices.Concat(n.failing, n.uncovered, n.waiting) {
		if len(status.Nodes.Failing) < maxFailing {
			status.Nodes.Failing = append(status.Nodes.Failing, v.name)
		}
	}
	accepted, resolved := k.accepted(), k.resolved()
	programmed, degraded := k.programmed(n), k.degraded(n)
	all := []metav1.Condition{accepted, resolved, programmed, degraded, k.ready(n, accepted, resolved, programmed, degraded)}
	status.Conditions = slices.Clone(k.before.Conditions)
	if stalled, is := k.stalled(n, accepted); is {
		all = append(all, stalled)
	} else {
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionStalled)
	}
	for _, c := range all {
		c.ObservedGeneration, c.Message = k.generation, fleet.Cut(c.Message, maxMessage)
		c.LastTransitionTime = metav1.NewTime(k.now.Truncate(time.Second))
		meta.SetStatusCondition(&status.Conditions, c)
	}
	return status
}

func condition(kind string, status bool, reason, format string, args ...any) metav1.Condition {
	is := metav1.ConditionFalse
	if status {
		is = metav1.ConditionTrue
	}
	return metav1.Condition{Type: kind, Status: is, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func (k *known) accepted() metav1.Condition {
	if len(k.faults) > 0 {
		return condition(v1alpha1.ConditionAccepted, false, ReasonInvalid, "%s.", strings.Join(k.faults, ". "))
	}
	return condition(v1alpha1.ConditionAccepted, true, ReasonAccepted, "The inspection is valid.")
}

func (k *known) resolved() metav1.Condition {
	if len(k.missing) > 0 {
		return condition(v1alpha1.ConditionResolvedRefs, false, ReasonRuleSetNotFound, "There is no %s: create it, or correct the name.", strings.Join(k.missing, ", and no "))
	}
	return condition(v1alpha1.ConditionResolvedRefs, true, ReasonResolvedRefs, "All rule sets exist.")
}

// programmed tells whether all nodes do what the inspection says.
func (k *known) programmed(n *sorted) metav1.Condition {
	is := func(status bool, reason, format string, args ...any) metav1.Condition {
		return condition(v1alpha1.ConditionProgrammed, status, reason, format, args...)
	}
	aside := ""
	if len(n.down) > 0 {
		aside = fmt.Sprintf(" Not counted, since down: %s.", names(n.down))
	}
	did := fmt.Sprintf("%d of %s the traffic.", len(n.applying), fleet.Plural(len(n.all), "node inspects", "nodes inspect"))
	switch {
	case len(n.all) == 0:
		return is(true, ReasonNoPods, "The inspection selects no Pod at present, so there is nothing to inspect.%s", aside)
	case !k.engine:
		return is(false, ReasonNoEngine, "The cluster has no Engine, or it is being deleted, so that nothing is inspected: create the Engine %s.", v1alpha1.EngineName)
	case len(n.applying) == len(n.all):
		return is(true, ReasonProgrammed, "%s%s", did, aside)
	}
	text, reason := did, ReasonPending
	if len(n.waiting) > 0 {
		text += fmt.Sprintf(" Waiting for %s.", names(n.waiting))
	}
	if len(n.failing) > 0 {
		first := n.failing[0]
		reason = first.report.Reason
		if reason == "" {
			reason = ReasonPending
		}
		text += " " + tell(first, first.report.Reason, first.report.Message, len(n.failing))
	}
	if len(n.uncovered) > 0 {
		if reason != ReasonRulesRefused {
			reason = ReasonNodeNotCovered
		}
		text += fmt.Sprintf(" The Engine's nodeSelector leaves out %s: give these nodes the labels, widen the selector, or keep the Pods away from them.", names(n.uncovered))
	}
	return is(false, reason, "%s%s", text, aside)
}

// degraded tells of nodes that need a look.
func (k *known) degraded(n *sorted) metav1.Condition {
	if len(n.troubled) == 0 {
		return condition(v1alpha1.ConditionDegraded, false, ReasonNodesHealthy, "No node reports trouble.")
	}
	first := n.troubled[0]
	reason, message := trouble(first)
	return condition(v1alpha1.ConditionDegraded, true, reason, "%s", tell(first, reason, message, len(n.troubled)))
}

func trouble(v *view) (reason, message string) {
	switch {
	case v.silent:
		return ReasonNodeNotReporting, "the agent has not reported for a while: look at its Pod"
	case v.report.Degraded != "":
		return v.report.Degraded, v.report.DegradedMessage
	}
	return ReasonNotInspected, "no engine looks at the traffic at present"
}

// ready summarises.
func (k *known) ready(n *sorted, accepted, resolved, programmed, degraded metav1.Condition) metav1.Condition {
	is := func(c metav1.Condition) metav1.Condition {
		return condition(v1alpha1.ConditionReady, false, c.Reason, "%s", c.Message)
	}
	switch {
	case accepted.Status != metav1.ConditionTrue:
		return is(accepted)
	case resolved.Status != metav1.ConditionTrue:
		return is(resolved)
	case programmed.Status != metav1.ConditionTrue:
		return is(programmed)
	}
	if i := slices.IndexFunc(n.troubled, func(v *view) bool { return v.silent || !v.report.Inspected }); i >= 0 {
		reason, _ := trouble(n.troubled[i])
		degraded.Reason = reason
		return is(degraded)
	}
	if len(n.all) == 0 {
		return condition(v1alpha1.ConditionReady, true, ReasonReady, "%s", programmed.Message)
	}
	return condition(v1alpha1.ConditionReady, true, ReasonReady, "The traffic is inspected on %s.", fleet.Plural(len(n.all), "node", "nodes"))
}

// stalled is true when only a person helps.
func (k *known) stalled(n *sorted, accepted metav1.Condition) (metav1.Condition, bool) {
	if accepted.Status != metav1.ConditionTrue {
		return condition(v1alpha1.ConditionStalled, true, accepted.Reason, "%s", accepted.Message), true
	}
	if k.engine && len(n.failing) > 0 && n.failing[0].report.Reason == ReasonRulesRefused {
		first := n.failing[0]
		return condition(v1alpha1.ConditionStalled, true, ReasonRulesRefused, "%s", tell(first, first.report.Reason, first.report.Message, len(n.failing))), true
	}
	return metav1.Condition{}, false
}

// tell quotes a node, and says how many others there are.
func tell(v *view, reason, message string, count int) string {
	text := fmt.Sprintf("%s: %s: %s.", v.name, reason, strings.TrimRight(fleet.Cut(message, maxMessage/2), ". :"))
	if count > 1 {
		text += fmt.Sprintf(" And %s.", fleet.Plural(count-1, "more node", "more nodes"))
	}
	return text
}

func names(views []*view) string {
	var all []string
	for _, v := range views {
		all = append(all, v.name)
	}
	return fleet.Names(all)
}
