package lab

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
)

// InspectionStatus is one TrafficInspection, over all nodes.
type InspectionStatus struct {
	Name     string   `json:"name"` // namespace/name
	Mode     string   `json:"mode"`
	RuleSets []string `json:"ruleSets"`
	// Pods is how many it selects.
	Pods int `json:"pods"`
	// State is "inspects", or why it does not, or not everywhere.
	State   string `json:"state"`
	Alerts  int    `json:"alerts"`
	Dropped int    `json:"dropped"` // of the alerts
	// LastAlert is when the last one was raised; zero for never.
	LastAlert time.Time `json:"lastAlert,omitzero"`
}

func (l *Lab) inspectionStatus(i *v1alpha1.TrafficInspection, nodes []NodeStatus) InspectionStatus {
	s := InspectionStatus{Name: i.Namespace + "/" + i.Name, Mode: string(i.Spec.Mode)}
	for _, r := range i.Spec.RuleSets {
		name := r.Name
		if r.KindOf() != "RuleSet" {
			name = "cluster/" + r.Name
		}
		s.RuleSets = append(s.RuleSets, name)
	}
	var faults []string
	for _, name := range slices.Sorted(maps.Keys(l.nodes)) {
		fault, pods := l.nodes[name].inspectionFault(types.NamespacedName{Namespace: i.Namespace, Name: i.Name})
		s.Pods = max(s.Pods, pods) // every node counts those of all nodes
		if fault != "" {
			faults = append(faults, name+": "+fault)
		}
	}
	for _, n := range nodes {
		for _, e := range n.Signatures {
			if slices.Contains(e.Inspections, s.Name) && e.Engine != inspects {
				faults = append(faults, n.Name+": "+e.Engine)
			}
		}
	}
	slices.Sort(faults)
	s.State = cmp.Or(strings.Join(slices.Compact(faults), "; "), inspects)
	for _, a := range l.alerts.Since(l.began) {
		if !slices.Contains(a.Inspections, s.Name) {
			continue
		}
		s.Alerts++
		s.LastAlert = a.Time
		if a.Action == string(alerts.Dropped) {
			s.Dropped++
		}
	}
	return s
}

// inspectionFault is why the node does not do an inspection, empty where it does or has nothing to do; and how many Pods it selects.
func (n *labNode) inspectionFault(name types.NamespacedName) (fault string, pods int) {
	o := n.plane.Outcome()
	if o == nil {
		return "", 0
	}
	f := o.Report.Findings.InspectionFor(name)
	if f == nil {
		return "", 0
	}
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionResolvedRefs} {
		if c := meta.FindStatusCondition(f.Conditions, kind); c != nil && c.Status == "False" {
			return c.Message, f.Pods
		}
	}
	return f.NotDone, f.Pods
}
