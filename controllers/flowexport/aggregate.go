package flowexport

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/fleet"
	"github.com/meerkat-dev/meerkat/dataplane/flowexport/protocols"
)

// Reasons of conditions, beside those that nodes report.
const (
	ReasonAccepted = "Accepted"
	ReasonInvalid  = "Invalid"
	ReasonResolved = "ResolvedProtocols"
	// ReasonUnknownProtocol goes with ResolvedProtocols=False: a name is neither a protocol's nor a group's.
	ReasonUnknownProtocol = "UnknownProtocol"
	// ReasonNotTracked goes with ProtocolNotTracked=True, and ReasonTracked with False.
	ReasonNotTracked = "NotTracked"
	ReasonTracked    = "Tracked"
	ReasonProgrammed = "Programmed"
	// ReasonNoNodes goes with Programmed=True: the Engine has no node.
	ReasonNoNodes = "NoNodes"
	// ReasonPending goes with Programmed=False: nodes have not reported on the present generation yet.
	ReasonPending  = "Pending"
	ReasonNoEngine = "NoEngine"
	// ReasonNodeNotReporting goes with Degraded=True and Ready=False: a node's report is old, or there is none.
	ReasonNodeNotReporting = "NodeNotReporting"
	// ReasonCollectorUnreachable is what nodes report of a collector that takes no records. It goes with Degraded=True and Ready=False.
	ReasonCollectorUnreachable = "CollectorUnreachable"
	ReasonNodesHealthy         = "NodesHealthy"
	ReasonReady                = "Ready"
)

const (
	// maxMessage is the length of a condition's message, in bytes, that reads well.
	maxMessage = 4096
	maxFailing = 10
)

// known is all that is known of an export.
type known struct {
	generation int64
	faults     []string
	unknown    []protocols.Unknown
	untracked  []uint8
	wanted     protocols.Set
	engine     bool // there is one, and it stays
	// nodes are those of the Engine, sorted by name.
	nodes  []view
	before *v1alpha1.FlowExportStatus
	now    time.Time
}

// view is a node, as far as the export goes.
type view struct {
	name string
	// down says that the Node is not ready, and silent that its agent has not reported of late.
	down, silent bool
	report       *v1alpha1.NodeFlowExport
}

// sorted are the nodes by what they are at.
type sorted struct {
	all, applying, waiting, failing, down []*view
	troubled                              []*view
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
		case spoken && v.report.Programmed:
			s.applying = append(s.applying, v)
		case spoken:
			s.failing = append(s.failing, v)
		default:
			s.waiting = append(s.waiting, v)
		}
		if v.silent || v.report != nil && v.report.Degraded != "" {
			s.troubled = append(s.troubled, v)
		}
	}
	slices.SortStableFunc(s.troubled, func(a, b *view) int { return rank(a) - rank(b) })
	return s
}

// rank puts first what keeps an export from being ready.
func rank(v *view) int {
	if v.halts() {
		return 0
	}
	return 1
}

// halts tells that the node does not tell every collector what it is to.
func (v *view) halts() bool { return v.silent || v.report.Degraded == ReasonCollectorUnreachable }

// aggregate works out an export's status. It is pure.
func aggregate(k *known) v1alpha1.FlowExportStatus {
	n := k.sort()
	status := v1alpha1.FlowExportStatus{
		ObservedGeneration: k.generation, Nodes: &v1alpha1.NodeCounts{Desired: int32(len(n.all)), Programmed: int32(len(n.applying))},
	}
	for _, number := range k.wanted.Numbers {
		status.Protocols = append(status.Protocols, protocols.Name(number))
	}
	for _, v := range slices.Concat(n.failing, n.waiting) {
		if len(status.Nodes.Failing) < maxFailing {
			status.Nodes.Failing = append(status.Nodes.Failing, v.name)
		}
	}
	accepted, resolved, untracked := k.accepted(), k.resolved(), k.notTracked()
	programmed, degraded := k.programmed(n), k.degraded(n)
	all := []metav1.Condition{accepted, resolved, untracked, programmed, degraded, k.ready(n, accepted, resolved, programmed, degraded)}
	status.Conditions = slices.Clone(k.before.Conditions)
	if stalled, is := k.stalled(accepted, resolved); is {
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
		return condition(v1alpha1.ConditionAccepted, false, ReasonInvalid, "%s. Nothing is exported until then.", strings.Join(k.faults, ". "))
	}
	return condition(v1alpha1.ConditionAccepted, true, ReasonAccepted, "The export is valid.")
}

func (k *known) resolved() metav1.Condition {
	if len(k.unknown) == 0 {
		return condition(v1alpha1.ConditionResolvedProtocols, true, ReasonResolved, "All protocols are known.")
	}
	var all []string
	for _, u := range k.unknown {
		all = append(all, u.String())
	}
	rest := "The others are exported."
	if !k.wanted.All && len(k.wanted.Numbers) == 0 {
		rest = "No other is left, so that nothing is exported."
	}
	return condition(v1alpha1.ConditionResolvedProtocols, false, ReasonUnknownProtocol,
		"%s. %s Write a name or number of IANA's, or define the group in spec.groups.", strings.Join(all, ". "), rest)
}

func (k *known) notTracked() metav1.Condition {
	if len(k.untracked) == 0 {
		return condition(v1alpha1.ConditionProtocolNotTracked, false, ReasonTracked, "The switch tracks connections of all protocols that are asked for.")
	}
	var names []string
	for _, number := range k.untracked {
		names = append(names, protocols.Name(number))
	}
	return condition(v1alpha1.ConditionProtocolNotTracked, true, ReasonNotTracked,
		"The switch tracks connections of TCP, UDP and SCTP alone: there are none to export of %s. What is denied of them is told of as far as it is reported.",
		strings.Join(names, ", "))
}

// programmed tells whether all nodes do what the export says.
func (k *known) programmed(n *sorted) metav1.Condition {
	is := func(status bool, reason, format string, args ...any) metav1.Condition {
		return condition(v1alpha1.ConditionProgrammed, status, reason, format, args...)
	}
	aside := ""
	if len(n.down) > 0 {
		aside = fmt.Sprintf(" Not counted, since down: %s.", names(n.down))
	}
	did := fmt.Sprintf("%d of %s.", len(n.applying), fleet.Plural(len(n.all), "node exports", "nodes export"))
	switch {
	case !k.engine:
		return is(false, ReasonNoEngine, "The cluster has no Engine, or it is being deleted, so that nothing is exported: create the Engine %s.", v1alpha1.EngineName)
	case len(n.all) == 0:
		return is(true, ReasonNoNodes, "The Engine has no node that is up.%s", aside)
	case len(n.applying) == len(n.all):
		return is(true, ReasonProgrammed, "%s%s", did, aside)
	}
	text, reason := did, ReasonPending
	if len(n.waiting) > 0 {
		text += fmt.Sprintf(" Waiting for %s.", names(n.waiting))
	}
	if len(n.failing) > 0 {
		first := n.failing[0]
		if first.report.Reason != "" {
			reason = first.report.Reason
		}
		text += " " + tell(first, first.report.Reason, first.report.Message, len(n.failing))
	}
	return is(false, reason, "%s%s", text, aside)
}

// degraded tells of nodes that need a look.
func (k *known) degraded(n *sorted) metav1.Condition {
	if len(n.troubled) == 0 {
		return condition(v1alpha1.ConditionDegraded, false, ReasonNodesHealthy, "No node reports trouble.")
	}
	first := n.troubled[0]
	reason, message := ReasonNodeNotReporting, "the agent has not reported for a while: look at its Pod"
	if !first.silent {
		reason, message = first.report.Degraded, first.report.DegradedMessage
	}
	return condition(v1alpha1.ConditionDegraded, true, reason, "%s", tell(first, reason, message, len(n.troubled)))
}

// ready summarises.
func (k *known) ready(n *sorted, accepted, resolved, programmed, degraded metav1.Condition) metav1.Condition {
	is := func(c metav1.Condition) metav1.Condition {
		return condition(v1alpha1.ConditionReady, false, c.Reason, "%s", c.Message)
	}
	for _, c := range []metav1.Condition{accepted, resolved, programmed} {
		if c.Status != metav1.ConditionTrue {
			return is(c)
		}
	}
	if len(n.troubled) > 0 && n.troubled[0].halts() {
		return is(degraded)
	}
	return condition(v1alpha1.ConditionReady, true, ReasonReady, "%s", programmed.Message)
}

// stalled is true when only a person helps.
func (k *known) stalled(accepted, resolved metav1.Condition) (metav1.Condition, bool) {
	for _, c := range []metav1.Condition{accepted, resolved} {
		if c.Status != metav1.ConditionTrue {
			return condition(v1alpha1.ConditionStalled, true, c.Reason, "%s", c.Message), true
		}
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
