// Package fleet tells which nodes have Pods that an inspection selects, which are down, and which report. Controllers share it.
package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// StaleAfter is how old a node's report may be before its agent counts as away.
const StaleAfter = 3 * time.Minute

// Selected tells whether an inspection selects a Pod: it has its labels, runs on a node, has not ended, and has a network of its own.
func Selected(selector labels.Selector, pod *corev1.Pod) bool {
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	return pod.Spec.NodeName != "" && !ended && !pod.Spec.HostNetwork && selector.Matches(labels.Set(pod.Labels))
}

// NodesOf returns the nodes with Pods that the inspection selects, sorted. A selector that is none selects nothing.
func NodesOf(ctx context.Context, reader client.Reader, inspection *v1alpha1.TrafficInspection) ([]string, error) {
	selector, err := metav1.LabelSelectorAsSelector(&inspection.Spec.PodSelector)
	if err != nil {
		return nil, nil //nolint:nilerr // The webhook refuses it, and the inspection's status says so.
	}
	var pods corev1.PodList
	if err := reader.List(ctx, &pods, client.InNamespace(inspection.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("reading the Pods of %s: %w", inspection.Namespace, err)
	}
	var nodes []string
	for i := range pods.Items {
		if Selected(selector, &pods.Items[i]) {
			nodes = append(nodes, pods.Items[i].Spec.NodeName)
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes), nil
}

// Down tells whether a node is not ready.
func Down(node *corev1.Node) bool {
	return !slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// Reports tells whether the node's agent has reported of late.
func Reports(report *v1alpha1.NodeInspection, now time.Time) bool {
	return report != nil && report.Status.Reported != nil && now.Sub(report.Status.Reported.Time) < StaleAfter
}

// Uses tells whether an inspection names the rule set; namespace is empty for a ClusterRuleSet.
func Uses(inspection *v1alpha1.TrafficInspection, kind, namespace, name string) bool {
	if kind == "RuleSet" && inspection.Namespace != namespace {
		return false
	}
	return slices.ContainsFunc(inspection.Spec.RuleSets, func(r v1alpha1.RuleSetReference) bool { return r.KindOf() == kind && r.Name == name })
}

// Increase is how much a count of a node has grown. One that is less than before has begun anew.
func Increase(before, now int64) int64 {
	if now < before {
		return now
	}
	return now - before
}

// Cut shortens a text to a number of bytes.
func Cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	const mark = "…"
	return strings.ToValidUTF8(text[:most-len(mark)], "") + mark
}

// maxNamed is how many nodes a message names.
const maxNamed = 10

// Names lists nodes: a, b and 3 more.
func Names(nodes []string) string {
	if more := len(nodes) - maxNamed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(nodes[:maxNamed], ", "), more)
	}
	return strings.Join(nodes, ", ")
}

// Plural says 1 node runs, 2 nodes run.
func Plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}
