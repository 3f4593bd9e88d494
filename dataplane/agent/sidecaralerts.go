package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

// tell makes events of a report's first alerts.
func (s *sidecarServer) tell(ctx context.Context, pod *corev1.Pod, inspection *v1alpha1.TrafficInspection, r *sidecar.Report, count int) {
	for _, a := range r.Alerts[:count] {
		record, err := alerts.Decode(a.Record)
		if err != nil {
			if !errors.Is(err, alerts.ErrNoAlert) {
				s.agent.cfg.Log.V(1).Info("An alert of a sidecar cannot be read", "pod", pod.Namespace+"/"+pod.Name, "error", err.Error())
			}
			continue
		}
		event, ok := sidecarEvent(pod, inspection, &record)
		if !ok {
			continue
		}
		event.Node, event.RuleSets = s.agent.cfg.Node, ruleSetsOfAlert(inspection, r, a)
		s.names.complete(ctx, pod, &event, &record)
		s.agent.onAlert(event)
	}
}

// sidecarEvent makes the event of an alert, without names. It gives false for connections that the inspection does not look at: an engine
// in a Pod sees all of them. The alert is that of the Pod whose sidecar sent it, whatever it says.
func sidecarEvent(pod *corev1.Pod, inspection *v1alpha1.TrafficInspection, r *alerts.Record) (alerts.Event, bool) {
	client, server := r.Source, r.Destination
	if r.ToClient {
		client, server = server, client
	}
	own := func(a netip.Addr) bool { return a.IsLoopback() || slices.Contains(addressesOf(pod), a) }
	var direction plan.Direction
	for _, d := range []struct {
		is   plan.Direction
		here bool
	}{{plan.Ingress, own(server.Addr())}, {plan.Egress, own(client.Addr()) || !own(server.Addr())}} {
		if d.here && direction == "" && looksAt(inspection, pod, d.is, r.Protocol, server.Port()) {
			direction = d.is
		}
	}
	if direction == "" {
		return alerts.Event{}, false
	}
	return alerts.Event{
		Time: r.Time, Inspections: []string{inspection.Namespace + "/" + inspection.Name}, Mode: v1alpha1.InspectionDetect, Action: alerts.Alerted,
		Direction: direction, Signature: r.Signature, Protocol: r.Protocol, Application: r.Application, ToClient: r.ToClient, FlowID: r.FlowID,
		Detail: r.Detail,
	}, true
}

// looksAt tells whether an inspection looks at a Pod's connections of a direction to a port.
func looksAt(inspection *v1alpha1.TrafficInspection, pod *corev1.Pod, d plan.Direction, protocol string, port uint16) bool {
	wanted := inspection.Spec.Direction
	if wanted != "" && wanted != v1alpha1.InspectBoth && string(wanted) != string(d) {
		return false
	}
	if len(inspection.Spec.Ports) == 0 {
		return true
	}
	return slices.ContainsFunc(inspection.Spec.Ports, func(p v1alpha1.PolicyPort) bool {
		name := string(p.Protocol)
		if name == "" {
			name = "TCP"
		}
		switch {
		case !strings.EqualFold(name, protocol):
			return false
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.String:
			return hasPort(pod, p.Port.StrVal, protocol, int32(port))
		case p.EndPort != nil:
			return int32(port) >= p.Port.IntVal && int32(port) <= *p.EndPort
		}
		return int32(port) == p.Port.IntVal
	})
}

// hasPort tells whether a Pod has a port of this name and number.
func hasPort(pod *corev1.Pod, name, protocol string, number int32) bool {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			for _, p := range containers[i].Ports {
				of := string(p.Protocol)
				if of == "" {
					of = "TCP"
				}
				if p.Name == name && p.ContainerPort == number && strings.EqualFold(of, protocol) {
					return true
				}
			}
		}
	}
	return false
}

// ruleSetsOfAlert are those of the inspection's rule sets that the sidecar says have the signature; all of them when it says none.
func ruleSetsOfAlert(inspection *v1alpha1.TrafficInspection, r *sidecar.Report, a sidecar.Alert) []alerts.RuleSet {
	var own []string
	for i := range inspection.Spec.RuleSets {
		own = append(own, sidecar.RuleSetName(inspection.Namespace, &inspection.Spec.RuleSets[i]))
	}
	var named, all []alerts.RuleSet
	for i, s := range r.RuleSets {
		if !slices.Contains(own, s.Name) {
			continue // of before the inspection was changed, or not true
		}
		set := alerts.RuleSet{Name: s.Name, Revision: s.Revision}
		all = append(all, set)
		if slices.Contains(a.RuleSets, i) {
			named = append(named, set)
		}
	}
	if len(named) > 0 {
		return named
	}
	return all
}
