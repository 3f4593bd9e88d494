package ruleset

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/fleet"
	"github.com/meerkat-dev/meerkat/controllers/ruleset/rollout"
)

// nodes are those that have an agent or need the rule set, sorted by name. A node that is down, and whose agent is silent, needs nothing.
func (r *reconciler) nodes(ctx context.Context, k key) ([]rollout.Node, error) {
	var reports v1alpha1.NodeInspectionList
	var all corev1.NodeList
	var inspections v1alpha1.TrafficInspectionList
	for _, list := range []client.ObjectList{&reports, &all} {
		if err := r.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("reading %T: %w", list, err)
		}
	}
	if err := r.client.List(ctx, &inspections, client.InNamespace(k.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("reading TrafficInspections: %w", err)
	}
	found := map[string]*rollout.Node{}
	up := map[string]bool{}
	for i := range all.Items {
		up[all.Items[i].Name] = !fleet.Down(&all.Items[i])
	}
	for i := range reports.Items {
		report := &reports.Items[i]
		n := &rollout.Node{Name: report.Name, Reports: fleet.Reports(report, r.Now())}
		for j := range report.Status.RuleSets {
			if about := &report.Status.RuleSets[j]; (key{about.Kind, about.Namespace, about.Name}) == k {
				n.Report = about
			}
		}
		found[report.Name] = n
	}
	for i := range inspections.Items {
		if inspections.Items[i].Spec.Placement == v1alpha1.PlacementSidecar {
			continue // no node runs it
		}
		if !fleet.Uses(&inspections.Items[i], k.Kind, k.Namespace, k.Name) || inspections.Items[i].DeletionTimestamp != nil ||
			inspections.Items[i].Spec.Placement == v1alpha1.PlacementSidecar {
			continue // engines in Pods follow what nodes run
		}
		names, err := fleet.NodesOf(ctx, r.client, &inspections.Items[i])
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if found[name] == nil {
				found[name] = &rollout.Node{Name: name}
			}
			found[name].Needs = up[name] || found[name].Reports
		}
	}
	nodes := make([]rollout.Node, 0, len(found))
	for _, n := range found {
		nodes = append(nodes, *n)
	}
	slices.SortFunc(nodes, func(a, b rollout.Node) int { return strings.Compare(a.Name, b.Name) })
	return nodes, nil
}
