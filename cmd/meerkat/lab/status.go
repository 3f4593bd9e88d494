package lab

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Status is what a lab is and does, for people and programs.
type Status struct {
	Name     string              `json:"name"`
	Began    time.Time           `json:"began"`
	Nodes    []NodeStatus        `json:"nodes"`
	Pods     []PodStatus         `json:"pods"`
	Services []ServiceStatus     `json:"services"`
	Policies []v1alpha1.L7Policy `json:"policies"`
	// Inspections are the TrafficInspections, by name.
	Inspections []InspectionStatus `json:"inspections,omitempty"`
}

// NodeStatus is one node.
type NodeStatus struct {
	Name string `json:"name"`
	// Netns is the name of its network namespace, as `ip netns` lists it.
	Netns string `json:"netns"`
	// Engine is "inspects", or why it does not.
	Engine   string `json:"engine"`
	Restarts int    `json:"restarts"`
	Rules    int    `json:"rules"`
	// Switch is "runs", why it cannot be reached, or what others did to its flows of late.
	Switch   string `json:"switch"`
	Governed int    `json:"governed"` // Pods
	// Signatures are the engines of inspections.
	Signatures []SignatureStatus `json:"signatures,omitempty"`
	Sync       string            `json:"sync"` // how long the last one took
}

// SignatureStatus is an engine of inspections.
type SignatureStatus struct {
	Inspections []string `json:"inspections"`
	Mode        string   `json:"mode"`
	// Engine is "inspects", or why it does not.
	Engine   string `json:"engine"`
	Restarts int    `json:"restarts"`
	Rules    int    `json:"rules"`
	// CopiesDropped is how many copies were too many for its meter, RingDropped how many packets it did not take in time, AlertsLost
	// how many alerts nobody had time for.
	CopiesDropped uint64 `json:"copiesDropped"`
	RingDropped   uint64 `json:"ringDropped"`
	AlertsLost    uint64 `json:"alertsLost"`
}

// PodStatus is one Pod.
type PodStatus struct {
	Name      string   `json:"name"` // namespace/name
	Node      string   `json:"node"`
	Netns     string   `json:"netns"`
	Addresses []string `json:"addresses"`
	Governed  string   `json:"governed"` // "ingress", "egress", both, or empty
}

// ServiceStatus is one Service.
type ServiceStatus struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	Ports     []string `json:"ports"`
}

// inspects is what an engine does that does its work.
const inspects = "inspects"

// Status tells what the lab is and does now.
func (l *Lab) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{Name: l.opts.Name, Began: l.began}
	governed := map[string][]string{}
	for _, name := range l.cluster.nodes {
		s.Nodes = append(s.Nodes, l.nodes[name].status(l.net.NodeNetns(name), governed))
	}
	for _, p := range sorted(l.cluster.pods) {
		pod := PodStatus{Name: p.Namespace + "/" + p.Name, Node: p.Spec.NodeName, Netns: l.net.PodNetns(p.Namespace, p.Name)}
		for _, ip := range p.Status.PodIPs {
			pod.Addresses = append(pod.Addresses, ip.IP)
		}
		pod.Governed = strings.Join(governed[pod.Name], ",")
		s.Pods = append(s.Pods, pod)
	}
	for _, svc := range sorted(l.cluster.services) {
		status := ServiceStatus{Name: svc.Namespace + "/" + svc.Name, Addresses: svc.Spec.ClusterIPs}
		for _, p := range svc.Spec.Ports {
			status.Ports = append(status.Ports, portString(p))
		}
		s.Services = append(s.Services, status)
	}
	for _, p := range sorted(l.cluster.policies) {
		s.Policies = append(s.Policies, l.policyStatus(p))
	}
	for _, i := range sorted(l.cluster.inspections) {
		s.Inspections = append(s.Inspections, l.inspectionStatus(&i, s.Nodes))
	}
	return s
}

func (n *labNode) status(netns string, governed map[string][]string) NodeStatus {
	e := n.plane.Engine().Status()
	s := NodeStatus{Name: n.name, Netns: netns, Engine: inspects, Restarts: e.Restarts, Rules: e.Loaded.Rules}
	if h := n.plane.EngineHealth(); !h.Healthy {
		s.Engine = h.Reason
	}
	troubles := n.plane.Troubles()
	s.Switch = cmp.Or(troubles.Switch, troubles.Overwritten, "runs")
	o := n.plane.Outcome()
	if o == nil {
		return s
	}
	s.Sync = o.Report.Took.Round(time.Millisecond).String()
	s.Governed = len(o.Report.Plan.Edges)
	s.Signatures = n.signatureStatus(o.Report.Plan)
	for _, edge := range o.Report.Plan.Edges {
		if edge.Ingress != "" {
			governed[edge.Pod.String()] = append(governed[edge.Pod.String()], "ingress")
		}
		if edge.Egress != "" {
			governed[edge.Pod.String()] = append(governed[edge.Pod.String()], "egress")
		}
	}
	return s
}

// policyStatus gives a policy with the status that it would have in a cluster of the lab's nodes.
func (l *Lab) policyStatus(p v1alpha1.L7Policy) v1alpha1.L7Policy {
	p.Status = v1alpha1.L7PolicyStatus{ObservedGeneration: p.Generation, Nodes: &v1alpha1.NodeCounts{}}
	for _, name := range slices.Sorted(maps.Keys(l.nodes)) {
		n := l.nodes[name]
		o := n.plane.Outcome()
		if o == nil {
			continue
		}
		now := *o.Report
		now.Links = n.plane.LinkFaults()
		conditions := now.Conditions(&p, o.Err, n.plane.Troubles())
		mergeConditions(&p.Status.Conditions, conditions)
		p.Status.Nodes.Desired++
		if meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionProgrammed) {
			p.Status.Nodes.Programmed++
		} else {
			p.Status.Nodes.Failing = append(p.Status.Nodes.Failing, name)
		}
	}
	p.Status.Conditions = l.remember(&p)
	l.count(&p)
	return p
}

// remember gives the conditions with the times of their last transitions, which are those of the times that somebody asked.
func (l *Lab) remember(p *v1alpha1.L7Policy) []metav1.Condition {
	key := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
	var known []metav1.Condition
	for _, c := range l.conditions[key] {
		if meta.FindStatusCondition(p.Status.Conditions, c.Type) != nil {
			known = append(known, c)
		}
	}
	for _, c := range p.Status.Conditions {
		c.LastTransitionTime = metav1.Time{}
		meta.SetStatusCondition(&known, c)
	}
	l.conditions[key] = known
	return slices.Clone(known)
}

// mergeConditions lets the worse of two nodes' conditions stand for both.
func mergeConditions(all *[]metav1.Condition, more []metav1.Condition) {
	for _, c := range more {
		have := meta.FindStatusCondition(*all, c.Type)
		bad := metav1.ConditionFalse
		if c.Type == v1alpha1.ConditionDegraded || c.Type == v1alpha1.ConditionStalled {
			bad = metav1.ConditionTrue
		}
		if have == nil || c.Status == bad {
			meta.SetStatusCondition(all, c)
		}
	}
}

// count fills in what the policy has denied.
func (l *Lab) count(p *v1alpha1.L7Policy) {
	l.verdictsMu.Lock()
	defer l.verdictsMu.Unlock()
	for _, e := range l.verdicts {
		if !slices.Contains(e.Policies, p.Namespace+"/"+p.Name) {
			continue
		}
		switch e.Verdict {
		case verdict.Deny:
			p.Status.Denied++
			p.Status.LastDenied = &metav1.Time{Time: e.Time}
		case verdict.Audit:
			p.Status.Audited++
		case verdict.Allow, verdict.Drop: // not on the policy's account
		}
	}
}
