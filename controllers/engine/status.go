package engine

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/engine/render"
)

// maxFailing is how many nodes a status names at most.
const maxFailing = 10

// Reasons of an Engine's conditions.
const (
	reasonReady          = "NodesReady"
	reasonFailing        = "NodesFailing"
	reasonNoNodes        = "NoNodes"
	reasonStarting       = "Starting"
	reasonRollingOut     = "RollingOut"
	reasonUpToDate       = "UpToDate"
	reasonSwitchOutdated = "SwitchOutdated"
	reasonRefused        = "Refused"
	reasonDetaching      = "Detaching"
	reasonNotStalled     = "NotStalled"
)

// summarize gives the Engine's status for what is seen of the nodes.
func summarize(engine *v1alpha1.Engine, s seen) v1alpha1.EngineStatus {
	status := v1alpha1.EngineStatus{
		ObservedGeneration: engine.Generation,
		Conditions:         slices.Clone(engine.Status.Conditions),
		Nodes:              countNodes(s),
	}
	progressing := progressOf(s)
	for _, c := range []metav1.Condition{readiness(s, status.Nodes, progressing), progressing, stalled(s)} {
		c.ObservedGeneration = engine.Generation
		meta.SetStatusCondition(&status.Conditions, c)
	}
	setDelivery(&status.Conditions, engine, s)
	return status
}

// countNodes counts the nodes that the DaemonSet means, or those that have an agent when there are more: a node may have got its Pod
// before the DaemonSet says so.
func countNodes(s seen) *v1alpha1.EngineNodes {
	n := &v1alpha1.EngineNodes{Ready: int32(len(s.ready))} //nolint:gosec // A cluster has fewer nodes than that.
	n.Desired = n.Ready + int32(len(s.failing))            //nolint:gosec // As above.
	if s.node != nil {
		n.Desired = max(n.Desired, s.node.Status.DesiredNumberScheduled)
	}
	n.Failing = slices.Clone(s.failing[:min(len(s.failing), maxFailing)])
	return n
}

// readiness is the condition Ready: every node that is meant runs and reports.
func readiness(s seen, n *v1alpha1.EngineNodes, progressing metav1.Condition) metav1.Condition {
	no := func(reason, message string) metav1.Condition {
		return metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason, Message: message}
	}
	switch {
	case s.refused != nil:
		return no(reasonRefused, "What is to run on nodes is refused; see the condition Stalled.")
	case progressing.Reason == reasonStarting:
		return no(reasonStarting, progressing.Message)
	case n.Desired == 0:
		return no(reasonNoNodes, "No node is meant: none has the labels of spec.nodeSelector and kubernetes.io/os=linux without a taint "+
			"that spec.tolerations leaves out. Policies are not enforced anywhere.")
	case n.Ready < n.Desired:
		return no(reasonFailing, failingMessage(s, n))
	case progressing.Status == metav1.ConditionTrue:
		return no(reasonRollingOut, progressing.Message)
	}
	return metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: reasonReady,
		Message: fmt.Sprintf("Traffic is inspected on %s.", nodes(n.Desired)),
	}
}

// failingMessage says which nodes fail, and where to look.
func failingMessage(s seen, n *v1alpha1.EngineNodes) string {
	var parts []string
	if len(s.failing) > 0 {
		parts = append(parts, fmt.Sprintf("Of %s, %d without a report that it inspects: %s. See: kubectl get nodeinspections; "+
			"kubectl -n %s get pods -l %s=%s -o wide", nodes(n.Desired), len(s.failing), names(s.failing), namespaceOf(s), render.LabelName, render.Name))
	}
	if missing := n.Desired - n.Ready - int32(len(s.failing)); missing > 0 { //nolint:gosec // A cluster has fewer nodes than that.
		parts = append(parts, fmt.Sprintf("Without a Pod of the agent: %s. See: kubectl -n %s describe daemonset %s",
			nodes(missing), namespaceOf(s), render.NodeDaemonSet))
	}
	return strings.Join(parts, ". ") + "."
}

// progressOf is the condition Progressing: nodes are being updated.
func progressOf(s seen) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionProgressing, Status: metav1.ConditionTrue}
	switch {
	case s.refused != nil:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reasonRefused, "What is to run on nodes is refused; see the condition Stalled."
	case s.node == nil || s.openvswitch == nil || isBehind(s.node) || isBehind(s.openvswitch):
		c.Reason, c.Message = reasonStarting, "The DaemonSets have been written, and nothing is known of their Pods yet."
	case s.node.Status.UpdatedNumberScheduled < s.node.Status.DesiredNumberScheduled:
		c.Reason = reasonRollingOut
		c.Message = fmt.Sprintf("The agent is as the Engine says on %d of %s.",
			s.node.Status.UpdatedNumberScheduled, nodes(s.node.Status.DesiredNumberScheduled))
	case s.openvswitch.Status.UpdatedNumberScheduled < s.openvswitch.Status.DesiredNumberScheduled:
		old := s.openvswitch.Status.DesiredNumberScheduled - s.openvswitch.Status.UpdatedNumberScheduled
		c.Status, c.Reason = metav1.ConditionFalse, reasonSwitchOutdated
		c.Message = fmt.Sprintf("Open vSwitch is as the Engine said before on %s. It is not replaced by itself, since that interrupts the node's "+
			"governed Pods for a moment. When that may be: kubectl -n %s delete pod -l %s=%s --field-selector spec.nodeName=NODE",
			nodes(old), namespaceOf(s), render.LabelComponent, render.ComponentSwitch)
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reasonUpToDate, "All nodes run what the Engine says."
	}
	return c
}

// stalled is the condition Stalled: only a person can help.
func stalled(s seen) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionFalse, Reason: reasonNotStalled}
	if s.refused != nil {
		c.Status, c.Reason = metav1.ConditionTrue, reasonRefused
		c.Message = "The API server refuses what is to run on nodes: " + s.refused.Error()
	}
	return c
}

// isBehind tells that the DaemonSet's controller has not yet seen it as it is.
func isBehind(ds *appsv1.DaemonSet) bool {
	return ds.Status.ObservedGeneration < ds.Generation
}

func namespaceOf(s seen) string {
	if s.node == nil {
		return "NAMESPACE"
	}
	return s.node.Namespace
}

func nodes(n int32) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}

// names lists names for a person: at most ten, and how many there are more.
func names(all []string) string {
	if len(all) <= maxFailing {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:maxFailing], ", "), len(all)-maxFailing)
}
