package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

// Reasons for which an inspection by sidecars is not programmed on a node, or is degraded, beside those that sidecars report.
const (
	// ReasonSidecarMissing: a Pod was created without its sidecar.
	ReasonSidecarMissing = "SidecarMissing"
	// ReasonSidecarSilent: a sidecar does not report.
	ReasonSidecarSilent = "SidecarSilent"
	// ReasonSidecarRules: a sidecar has not loaded the newest rules yet.
	ReasonSidecarRules = "SidecarRulesOnTheirWay"
	// ReasonPodSecurity: the namespace does not let Pods have sidecars.
	ReasonPodSecurity = "PodSecurity"
	// ReasonAlertsLost: alerts or packets were lost of late.
	ReasonAlertsLost = "AlertsLost"
)

// sidecarFacts is an inspection by sidecars with the node's Pods that it selects.
type sidecarFacts struct {
	object *v1alpha1.TrafficInspection
	// content is what the sidecars are to load; empty while a rule set has no revision.
	content string
	pods    []sidecarPod
}

type sidecarPod struct {
	name string
	// has says that the Pod was given the sidecar, and why that it was given none.
	has     bool
	why     string
	pending bool
	state   sidecarState
}

// sidecarFacts gathers what is known of inspections by sidecars.
func (a *Agent) sidecarFacts(ctx context.Context) []sidecarFacts {
	c := a.cluster.cache
	var inspections v1alpha1.TrafficInspectionList
	var pods corev1.PodList
	var sets v1alpha1.RuleSetList
	var clusterSets v1alpha1.ClusterRuleSetList
	if !a.heard.Load() || c.List(ctx, &inspections) != nil || c.List(ctx, &pods) != nil || c.List(ctx, &sets) != nil || c.List(ctx, &clusterSets) != nil {
		return nil
	}
	revisions := map[string]string{}
	for i := range sets.Items {
		revisions[sets.Items[i].Namespace+"/"+sets.Items[i].Name] = sets.Items[i].Status.Revision
	}
	for i := range clusterSets.Items {
		revisions["cluster/"+clusterSets.Items[i].Name] = clusterSets.Items[i].Status.Revision
	}
	states := a.sidecars.all(func(uid types.UID) bool {
		return slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool { return p.UID == uid })
	})
	var all []sidecarFacts
	for i := range inspections.Items {
		f := sidecarFacts{object: &inspections.Items[i], content: wantedContent(&inspections.Items[i], revisions)}
		for k := range pods.Items {
			p := &pods.Items[k]
			ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || p.DeletionTimestamp != nil
			if ended || !wantsSidecar(f.object, p) {
				continue
			}
			f.pods = append(f.pods, sidecarPod{
				name: p.Namespace + "/" + p.Name, why: p.Annotations[sidecar.AnnotationWithout], pending: p.Status.Phase == corev1.PodPending,
				has:   slices.Contains(strings.Split(p.Annotations[sidecar.AnnotationSidecars], ","), f.object.Name),
				state: states[sidecarKey{p.UID, f.object.Name}],
			})
		}
		if len(f.pods) > 0 {
			slices.SortFunc(f.pods, func(a, b sidecarPod) int { return strings.Compare(a.name, b.name) })
			all = append(all, f)
		}
	}
	return all
}

// wantedContent is what the sidecars of an inspection are to load.
func wantedContent(i *v1alpha1.TrafficInspection, revisions map[string]string) string {
	var sets []sidecar.RuleSet
	for k := range i.Spec.RuleSets {
		name := sidecar.RuleSetName(i.Namespace, &i.Spec.RuleSets[k])
		if revisions[name] == "" {
			return ""
		}
		sets = append(sets, sidecar.RuleSet{Name: name, Revision: revisions[name]})
	}
	return sidecar.Content(sets, i.Spec.Variables)
}

// sidecarsReport reports the inspections by sidecars that select Pods of the node.
func sidecarsReport(all []sidecarFacts, records alertRecords, now time.Time) []v1alpha1.NodeTrafficInspection {
	var out []v1alpha1.NodeTrafficInspection
	for i := range all {
		f := &all[i]
		o := f.object
		n := v1alpha1.NodeTrafficInspection{
			Namespace: o.Namespace, Name: o.Name, ObservedGeneration: o.Generation, Pods: int32(len(f.pods)), //nolint:gosec // some hundred
			Programmed: true, Inspected: true,
		}
		missing := troubles{}
		degraded := troubles{}
		for k := range f.pods {
			reason, message := f.judge(&f.pods[k], now)
			missing.add(reason, f.pods[k].name, message)
			s := &f.pods[k].state
			n.Inspected = n.Inspected && f.pods[k].has && s.inspecting && now.Sub(s.heard) <= silentAfter
			if !s.trouble.IsZero() && now.Sub(s.trouble) <= troubledFor {
				degraded.add(ReasonAlertsLost, f.pods[k].name, fmt.Sprintf("its sidecar lost %d alerts and did not look at %d packets since it started: give it more "+
					"resources (annotation %s), or see whether it reaches the agent", s.lost, s.dropped, sidecar.AnnotationResources))
			}
		}
		if reason, message := missing.told(len(f.pods)); reason != "" {
			n.Programmed, n.Reason, n.Message = false, cut(reason, 64), cut(message, longest)
		}
		if reason, message := degraded.told(len(f.pods)); reason != "" {
			n.Degraded, n.DegradedMessage = cut(reason, 64), cut(message, longest)
		}
		if record, ok := records.Inspections[o.Namespace+"/"+o.Name]; ok {
			n.Alerts, n.LastSignatures = record.Alerts.DeepCopy(), record.last()
		}
		out = append(out, n)
	}
	return out
}

// judge says why a Pod is not inspected as it is written; nothing when it is.
func (f *sidecarFacts) judge(p *sidecarPod, now time.Time) (reason, message string) {
	s := &p.state
	switch {
	case !p.has && p.why == sidecar.WithoutPodSecurity:
		return ReasonPodSecurity, sidecar.RestrictedMessage
	case !p.has:
		return ReasonSidecarMissing, "it was created without a sidecar, before the inspection, or while no manager answered: delete the Pod so that it is created anew"
	case f.content == "":
		return plan.ReasonRuleSetNotReady, "a rule set has no revision yet that an engine has loaded: see its conditions"
	case s.heard.IsZero() && p.pending:
		return sidecar.ReasonStarting, "its sidecar starts"
	case now.Sub(s.heard) > silentAfter:
		return ReasonSidecarSilent, fmt.Sprintf("its sidecar does not report: see the log of its container, and whether it may reach its node at port %d by TCP (NetworkPolicies, firewalls)", sidecar.Port)
	case s.content == f.content:
		if !s.inspecting {
			return s.reason, s.message
		}
	case s.reason != "" && s.reason != sidecar.ReasonNoRules:
		return s.reason, s.message
	default:
		return ReasonSidecarRules, "its sidecar has not loaded the newest rules yet: the kubelet brings them within two minutes"
	}
	return "", ""
}

// troubles are those of several Pods.
type troubles struct {
	reason, message, pod string
	count                int
}

// worst are reasons that only a person mends, the first most.
var worst = []string{ReasonPodSecurity, sidecar.ReasonNoRight, sidecar.ReasonRulesRefused, ReasonSidecarMissing, ReasonSidecarSilent, sidecar.ReasonNotInspecting}

func (t *troubles) add(reason, pod, message string) {
	if reason == "" {
		return
	}
	t.count++
	rank := func(reason string) int {
		if i := slices.Index(worst, reason); i >= 0 {
			return i
		}
		return len(worst)
	}
	if t.reason == "" || rank(reason) < rank(t.reason) {
		t.reason, t.message, t.pod = reason, message, pod
	}
}

// told sums up.
func (t *troubles) told(of int) (reason, message string) {
	if t.reason == "" {
		return "", ""
	}
	message = "Pod " + t.pod + ": " + t.message
	if t.count > 1 {
		message += fmt.Sprintf(" (%d of %d Pods of this node have trouble)", t.count, of)
	}
	return t.reason, message
}
