package plan_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Every connection has the taps that the inspections say, and policies judge it as if there were none.
func TestTapsAsTheInspectionsSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t)
		drawInspections(t, s)
		p, f := plan.Compile(*s)
		if len(f.Inspections) != len(s.TrafficInspections) {
			t.Fatalf("findings of %d inspections, of %d", len(f.Inspections), len(s.TrafficInspections))
		}
		if len(p.Profiles) > max(s.MaxProfiles, 1) {
			t.Fatalf("%d engines, and at most %d are allowed", len(p.Profiles), s.MaxProfiles)
		}
		for i := range s.Pods {
			checkPod(t, s, p, &s.Pods[i])
			checkTaps(t, s, p, &s.Pods[i])
		}
	})
}

// Without inspections nothing is said of them, also not in keys and epochs: those of the golden files are of before there were any.
func TestPlanWithoutInspections(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t)
		drawInspections(t, s)
		with, _ := plan.Compile(*s)
		s.TrafficInspections = nil
		without, _ := plan.Compile(*s)
		if len(without.Taps)+len(without.Profiles) > 0 {
			t.Fatalf("there are no inspections, but taps and profiles: %+v", without)
		}
		for _, e := range without.Edges {
			i := slices.IndexFunc(with.Edges, func(other plan.Edge) bool { return other.Pod == e.Pod })
			if i < 0 {
				t.Fatalf("%s is governed without inspections, and not with them", e.Pod)
			}
		}
	})
}

func drawInspections(t *rapid.T, s *plan.Snapshot) {
	s.MaxProfiles = rapid.IntRange(1, 4).Draw(t, "maxProfiles")
	for i, name := range []string{"one", "two", "three"} {
		for _, namespace := range someNamespaces() {
			if i < 2 {
				s.Revisions = append(s.Revisions, plan.SignatureRevision{Kind: plan.KindRuleSet, Namespace: namespace, Name: name, Revision: "r" + name})
			}
		}
		s.Revisions = append(s.Revisions, plan.SignatureRevision{Kind: plan.KindClusterRuleSet, Name: name, Revision: "c" + name})
	}
	for i := range rapid.IntRange(1, 6).Draw(t, "inspections") {
		n := v1alpha1.TrafficInspection{ObjectMeta: metav1.ObjectMeta{
			Namespace: rapid.SampledFrom(someNamespaces()).Draw(t, "namespace"), Name: fmt.Sprint("inspection", i),
			CreationTimestamp: metav1.NewTime(time.Unix(int64(rapid.IntRange(1, 3).Draw(t, "created")), 0)),
		}}
		n.Spec.PodSelector = *drawSelector(t, "selector")
		n.Spec.Mode = rapid.SampledFrom([]v1alpha1.InspectionMode{"", v1alpha1.InspectionDetect, v1alpha1.InspectionPrevent}).Draw(t, "mode")
		n.Spec.Direction = rapid.SampledFrom([]v1alpha1.InspectionDirection{"", v1alpha1.InspectBoth, v1alpha1.InspectIngress, v1alpha1.InspectEgress}).Draw(t, "direction")
		n.Spec.Placement = rapid.SampledFrom([]v1alpha1.InspectionPlacement{"", v1alpha1.PlacementNode, v1alpha1.PlacementSidecar}).Draw(t, "placement")
		if n.Spec.Mode == v1alpha1.InspectionPrevent {
			n.Spec.FailurePolicy = rapid.SampledFrom([]v1alpha1.FailurePolicy{"", v1alpha1.FailOpen, v1alpha1.FailClosed}).Draw(t, "failurePolicy")
		}
		for range rapid.IntRange(0, 2).Draw(t, "ports") {
			n.Spec.Ports = append(n.Spec.Ports, drawInspectedPort(t))
		}
		for range rapid.IntRange(1, 2).Draw(t, "ruleSets") {
			n.Spec.RuleSets = append(n.Spec.RuleSets, v1alpha1.RuleSetReference{
				Kind: rapid.SampledFrom([]string{"", plan.KindRuleSet, plan.KindClusterRuleSet}).Draw(t, "kind"),
				Name: rapid.SampledFrom([]string{"one", "two", "three"}).Draw(t, "name"),
			})
		}
		s.TrafficInspections = append(s.TrafficInspections, n)
	}
}

func drawInspectedPort(t *rapid.T) v1alpha1.PolicyPort {
	p := v1alpha1.PolicyPort{Protocol: v1alpha1.Protocol(rapid.SampledFrom(someProtocols()).Draw(t, "protocol"))}
	switch rapid.IntRange(0, 3).Draw(t, "portKind") {
	case 0:
		p.Port = new(intstr.FromString(rapid.SampledFrom(somePortNames()).Draw(t, "portName")))
	case 1:
		p.Port = new(intstr.FromInt32(80))
		p.EndPort = new(rapid.SampledFrom([]int32{80, 82, 79}).Draw(t, "endPort")) // 79 is faulty
	case 2: // every port
	default:
		p.Port = new(intstr.FromInt32(rapid.SampledFrom(somePorts()).Draw(t, "port")))
	}
	return p
}

func checkTaps(t *rapid.T, s *plan.Snapshot, p *plan.NodePlan, pod *corev1.Pod) {
	var edge plan.Edge
	if i := slices.IndexFunc(p.Edges, func(e plan.Edge) bool { return e.Pod.Name == pod.Name }); i >= 0 {
		edge = p.Edges[i]
	}
	for _, direction := range []plan.Direction{plan.Ingress, plan.Egress} {
		key := edge.Ingress
		if direction == plan.Egress {
			key = edge.Egress
		}
		for _, protocol := range []plan.Protocol{plan.TCP, plan.UDP, plan.SCTP} {
			for _, port := range []uint16{1, 79, 80, 81, 82, 83, 90, 65535} {
				want := naiveTaps(s, pod, direction, protocol, port)
				got := [2][]string{}
				if g := p.Group(key); g != nil {
					taps := g.Tapped(protocol, port)
					for i, key := range []string{taps.Detect, taps.Prevent} {
						if tap := p.Tap(key); tap != nil {
							got[i] = tap.Inspections
						}
					}
				}
				if !slices.Equal(got[0], want[0]) || !slices.Equal(got[1], want[1]) {
					t.Fatalf("%s %s %s %d: plan %v, by the objects %v", pod.Name, direction, protocol, port, got, want)
				}
			}
		}
	}
}

// naiveTaps tells which inspections detect and which prevent at a connection, straight from the objects.
func naiveTaps(s *plan.Snapshot, pod *corev1.Pod, direction plan.Direction, protocol plan.Protocol, port uint16) (names [2][]string) {
	running := func(p *corev1.Pod) bool { return p.Status.Phase != corev1.PodSucceeded }
	if pod.Spec.NodeName != s.Node || pod.Spec.HostNetwork || !running(pod) {
		return names
	}
	all := slices.Clone(s.TrafficInspections)
	slices.SortFunc(all, func(a, b v1alpha1.TrafficInspection) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	profile := func(n *v1alpha1.TrafficInspection) string {
		text := fmt.Sprint(n.Spec.Mode == v1alpha1.InspectionPrevent, n.Spec.FailurePolicy == v1alpha1.FailClosed)
		for _, r := range n.Spec.RuleSets {
			text += " " + r.Name
			if r.Kind == plan.KindClusterRuleSet {
				text += " of the cluster"
			} else {
				text += " of " + n.Namespace
			}
		}
		return text
	}
	var profiles []string
	prevents := ""
	for i := range all {
		n := &all[i]
		known := !slices.ContainsFunc(n.Spec.RuleSets, func(r v1alpha1.RuleSetReference) bool { return r.Name == "three" && r.Kind != plan.KindClusterRuleSet })
		selector, err := metav1.LabelSelectorAsSelector(&n.Spec.PodSelector)
		selects := func(p *corev1.Pod) bool {
			return err == nil && p.Namespace == n.Namespace && selector.Matches(labels.Set(p.Labels)) && !p.Spec.HostNetwork && running(p)
		}
		here := slices.ContainsFunc(s.Pods, func(p corev1.Pod) bool { return p.Spec.NodeName == s.Node && selects(&p) })
		if n.Spec.Placement == v1alpha1.PlacementSidecar || !known || !here {
			continue
		}
		if own := profile(n); !slices.Contains(profiles, own) {
			if len(profiles) == s.MaxProfiles {
				continue
			}
			profiles = append(profiles, own)
		}
		if !selects(pod) || n.Spec.Direction == v1alpha1.InspectIngress && direction == plan.Egress ||
			n.Spec.Direction == v1alpha1.InspectEgress && direction == plan.Ingress {
			continue
		}
		if len(n.Spec.Ports) > 0 && !slices.ContainsFunc(n.Spec.Ports, func(p v1alpha1.PolicyPort) bool {
			return naivePort(s, pod, direction, p, protocol, port)
		}) {
			continue
		}
		label := types.NamespacedName{Namespace: n.Namespace, Name: n.Name}.String()
		switch {
		case n.Spec.Mode != v1alpha1.InspectionPrevent:
			names[0] = append(names[0], label)
		case prevents == "" || prevents == profile(n):
			prevents = profile(n)
			names[1] = append(names[1], label)
		}
	}
	slices.Sort(names[0])
	slices.Sort(names[1])
	return names
}

func naivePort(s *plan.Snapshot, pod *corev1.Pod, direction plan.Direction, p v1alpha1.PolicyPort, protocol plan.Protocol, port uint16) bool {
	if string(p.Protocol) != string(protocol) {
		return false
	}
	switch {
	case p.Port == nil:
		return true
	case p.Port.Type == intstr.String:
		return slices.ContainsFunc(s.Pods, func(other corev1.Pod) bool {
			if direction == plan.Ingress && other.Name != pod.Name || other.Status.Phase == corev1.PodSucceeded {
				return false
			}
			return slices.ContainsFunc(other.Spec.Containers[0].Ports, func(c corev1.ContainerPort) bool {
				return c.Name == p.Port.StrVal && string(c.Protocol) == string(p.Protocol) && c.ContainerPort == int32(port)
			})
		})
	case p.EndPort != nil:
		return p.Port.IntVal <= int32(port) && int32(port) <= *p.EndPort
	}
	return p.Port.IntVal == int32(port)
}
