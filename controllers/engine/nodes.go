package engine

import (
	"context"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/engine/render"
)

// silence is the age from which on a report tells of an agent that is away.
const silence = 3 * time.Minute

// seen is what is known of the nodes.
type seen struct {
	node, openvswitch *appsv1.DaemonSet // nil when there is none
	ready             []string          // names of nodes that report that they inspect
	failing           []string          // names of nodes with an agent that do not, in order
	undelivered       []undelivered     // nodes whose outputs do not take all events, in order
	refused           error             // why a DaemonSet could not be written, when only a person can help
}

// look reads what is known of the nodes.
func (r *reconciler) look(ctx context.Context) (seen, error) {
	var s seen
	var sets appsv1.DaemonSetList
	if err := r.client.List(ctx, &sets, client.InNamespace(r.Namespace)); err != nil {
		return seen{}, err
	}
	for i := range sets.Items {
		switch sets.Items[i].Name {
		case render.NodeDaemonSet:
			s.node = &sets.Items[i]
		case render.SwitchDaemonSet:
			s.openvswitch = &sets.Items[i]
		}
	}
	reports, err := r.reports(ctx)
	if err != nil {
		return seen{}, err
	}
	meant, err := r.nodesWithAgent(ctx)
	if err != nil {
		return seen{}, err
	}
	for _, name := range meant {
		if report, ok := reports[name]; ok && isReady(report) && r.isRecent(report) {
			s.ready = append(s.ready, name)
		} else {
			s.failing = append(s.failing, name)
		}
		s.look(name, reports[name])
	}
	return s, nil
}

// reports are the nodes' reports, by node. They are the cache's own: only to be read.
func (r *reconciler) reports(ctx context.Context) (map[string]*v1alpha1.NodeInspection, error) {
	var list v1alpha1.NodeInspectionList
	if err := r.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	all := make(map[string]*v1alpha1.NodeInspection, len(list.Items))
	for i := range list.Items {
		all[list.Items[i].Name] = &list.Items[i]
	}
	return all, nil
}

// nodesWithAgent are the nodes that have a Pod of the agent, sorted.
func (r *reconciler) nodesWithAgent(ctx context.Context) ([]string, error) {
	var pods corev1.PodList
	if err := r.client.List(ctx, &pods, agentPods(r.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for i := range pods.Items {
		if name := pods.Items[i].Spec.NodeName; name != "" {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// podsOf selects the Pods of one of the DaemonSets.
func podsOf(namespace, component string) client.ListOption {
	return listOptions{client.InNamespace(namespace), client.MatchingLabels{render.LabelName: render.Name, render.LabelComponent: component}}
}

func agentPods(namespace string) client.ListOption { return podsOf(namespace, render.ComponentNode) }

type listOptions []client.ListOption

// ApplyToList implements client.ListOption.
func (all listOptions) ApplyToList(o *client.ListOptions) {
	for _, option := range all {
		option.ApplyToList(o)
	}
}

func (r *reconciler) isRecent(report *v1alpha1.NodeInspection) bool {
	return report.Status.Reported != nil && r.Now().Sub(report.Status.Reported.Time) < silence
}

func isReady(report *v1alpha1.NodeInspection) bool {
	return meta.IsStatusConditionTrue(report.Status.Conditions, v1alpha1.ConditionReady)
}

func isDetached(report *v1alpha1.NodeInspection) bool {
	return meta.IsStatusConditionTrue(report.Status.Conditions, v1alpha1.ConditionDetached)
}
