package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// inspection is a TrafficInspection with its references resolved.
type inspection struct {
	object *v1alpha1.TrafficInspection
	name   types.NamespacedName
	label  string

	selected *podSelection
	// ports are what it names; everyPort that it names none.
	ports     []portSpec
	everyPort bool
	// ruleSets are all of it, or nil when one of them cannot be had.
	ruleSets []SignatureRef
	// profile is nil until the inspection has one.
	profile *profile

	// faults and dangling are as a policy's.
	faults, dangling []problem
	// overlaps are the inspections, by label, whose place it would have to take.
	overlaps map[string]bool
	notDone  string
}

// profile is a Profile that is being made.
type profile struct {
	Profile
	homes []int32
}

// inspections are those of a snapshot: the oldest first, by which the scarce places are given.
type inspections struct {
	all      []*inspection
	profiles []*profile
	taps     map[string]*Tap
	// everywhere are the numbers that a name of a port stands for on any Pod.
	everywhere map[portName]portSet
}

type portName struct {
	name     string
	protocol int
}

func newInspections(x *index, s *Snapshot) *inspections {
	all := &inspections{taps: map[string]*Tap{}, everywhere: map[portName]portSet{}}
	if len(s.TrafficInspections) == 0 {
		return all
	}
	sets := newSignatureIndex(s)
	for i := range s.TrafficInspections {
		all.all = append(all.all, newInspection(x, sets, &s.TrafficInspections[i]))
	}
	slices.SortFunc(all.all, func(a, b *inspection) int {
		return cmp.Or(a.object.CreationTimestamp.Compare(b.object.CreationTimestamp.Time), compareNames(a.name, b.name))
	})
	all.giveProfiles(x, cmp.Or(s.MaxProfiles, DefaultProfiles))
	return all
}

func newInspection(x *index, sets *signatureIndex, object *v1alpha1.TrafficInspection) *inspection {
	name := types.NamespacedName{Namespace: object.Namespace, Name: object.Name}
	n := &inspection{
		object: object, name: name, label: name.String(), everyPort: len(object.Spec.Ports) == 0, overlaps: map[string]bool{},
	}
	selector, err := parseSelector(&object.Spec.PodSelector)
	if err != nil {
		n.faults = append(n.faults, problem{ReasonInvalid, fmt.Sprintf(
			"spec.podSelector cannot be used: %v; it selects no Pod until it is corrected", err)})
	}
	n.selected = x.selectPods(name.Namespace, selector)
	var ports policy // takes the faults of ports, as for a rule of a policy
	n.ports = newPortSpecs(&ports, &ruleSource{field: "spec", ports: object.Spec.Ports})
	n.faults = append(n.faults, ports.faults...)
	n.ruleSets, n.dangling = sets.resolve(object)
	return n
}

func (n *inspection) prevents() bool { return n.object.Spec.Mode == v1alpha1.InspectionPrevent }

// failOpen is false for an inspection that does not prevent.
func (n *inspection) failOpen() bool {
	return n.prevents() && n.object.Spec.FailurePolicy != v1alpha1.FailClosed
}

func (n *inspection) mode() v1alpha1.InspectionMode {
	return cmp.Or(n.object.Spec.Mode, v1alpha1.InspectionDetect)
}

// looks says whether it looks at connections of a direction.
func (n *inspection) looks(d Direction) bool {
	wanted := cmp.Or(n.object.Spec.Direction, v1alpha1.InspectBoth)
	return wanted == v1alpha1.InspectBoth || string(wanted) == string(d)
}

// local gives the Pods of the node that it selects.
func (n *inspection) local(x *index) []int32 {
	return slices.DeleteFunc(slices.Clone(n.selected.pods), func(id int32) bool { return !x.pods[id].local })
}

// giveProfiles gives each inspection that has Pods on this node its engine, as long as there are any.
func (s *inspections) giveProfiles(x *index, most int) {
	known := map[string]*profile{}
	for _, n := range s.all {
		local := n.local(x)
		if n.object.Spec.Placement == v1alpha1.PlacementSidecar || n.ruleSets == nil || len(local) == 0 {
			continue
		}
		key := n.profileKey()
		p := known[key]
		switch {
		case p != nil:
		case len(s.profiles) >= most:
			n.notDone = fmt.Sprintf("this node runs %d engines for signatures already, for older inspections: let inspections share one, by the same "+
				"mode, rule sets in the same order, variables and failure policy", most)
			continue
		default:
			p = &profile{Profile: Profile{Key: key, Mode: n.mode(), FailOpen: n.failOpen(), RuleSets: n.ruleSets, Variables: n.object.Spec.Variables}}
			known[key] = p
			s.profiles = append(s.profiles, p)
		}
		n.profile = p
		p.Inspections = append(p.Inspections, n.label)
		p.homes = append(p.homes, local...)
	}
	for _, p := range s.profiles {
		slices.Sort(p.Inspections)
		p.Home = []string{}
		for _, id := range sortedUnique(p.homes) {
			for _, a := range x.pods[id].addresses {
				p.Home = append(p.Home, x.addresses[a].String())
			}
		}
		slices.Sort(p.Home)
		p.Home = slices.Compact(p.Home)
	}
}

func (n *inspection) profileKey() string {
	d := newDigest()
	d.text("profile")
	d.text(string(n.mode()))
	d.flag(n.failOpen())
	for _, r := range n.ruleSets {
		d.texts([]string{r.Kind, r.Namespace, r.Name})
	}
	variables, _ := json.Marshal(n.object.Spec.Variables) // maps of strings cannot fail, and are sorted
	d.text(string(variables))
	return d.key(Direction(n.mode()))
}

// of gives the inspections that look at a Pod's connections of a direction.
func (s *inspections) of(id int32, direction Direction) []*inspection {
	var found []*inspection
	for _, n := range s.all {
		if _, selected := slices.BinarySearch(n.selected.pods, id); selected && n.profile != nil && n.looks(direction) {
			found = append(found, n)
		}
	}
	return found
}

// portsOn gives the ports that connections of a Pod go to: the Pod's own at ingress. At egress, a name is what it is on any Pod.
func (s *inspections) portsOn(x *index, n *inspection, own *pod, direction Direction) portSet {
	if n.everyPort {
		return everyPort()
	}
	var ranges []portRange
	for _, spec := range n.ports {
		switch {
		case spec.name == "":
			ranges = append(ranges, spec.ports)
		case direction == Egress:
			ranges = append(ranges, s.anywhere(x, portName{spec.name, spec.protocol})...)
		default:
			for _, number := range own.namedPort(spec.name, spec.protocol) {
				ranges = append(ranges, onePort(spec.protocol, number))
			}
		}
	}
	return newPortSet(ranges)
}

func (s *inspections) anywhere(x *index, name portName) portSet {
	if set, ok := s.everywhere[name]; ok {
		return set
	}
	var ranges []portRange
	for i := range x.pods {
		for _, number := range x.pods[i].namedPort(name.name, name.protocol) {
			ranges = append(ranges, onePort(name.protocol, number))
		}
	}
	s.everywhere[name] = newPortSet(ranges)
	return s.everywhere[name]
}

// look is an inspection as it looks at the connections of one group.
type look struct {
	inspection *inspection
	ports      portSet
}

func (s *inspections) looksAt(x *index, id int32, direction Direction) []look {
	if !x.pods[id].local {
		return nil
	}
	var looks []look
	for _, n := range s.of(id, direction) {
		if ports := s.portsOn(x, n, &x.pods[id], direction); len(ports) > 0 {
			looks = append(looks, look{n, ports})
		}
	}
	return looks
}

// digest adds what makes groups different; nothing where nobody looks.
func digestLooks(d *digest, looks []look) {
	if len(looks) == 0 {
		return
	}
	d.text("inspections")
	for _, l := range looks {
		d.text(l.inspection.label)
		d.texts(strings.Fields(fmt.Sprint(l.ports)))
	}
}

// tapsOf gives a group's taps. Where inspections of mode Prevent with different engines look at one port, the oldest has it: a
// connection goes through one signature engine.
func (s *inspections) tapsOf(direction Direction, looks []look) []PortTaps {
	bounds := []uint32{}
	for i := range protocolCount + 1 {
		bounds = append(bounds, uint32(i)*portsPerProtocol)
	}
	for _, l := range looks {
		for _, r := range l.ports {
			bounds = append(bounds, r.lo, r.hi)
		}
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	var taps []PortTaps
	for i := range len(bounds) - 1 {
		cell := portRange{bounds[i], bounds[i+1]}
		detect, prevent := s.cell(direction, looks, cell)
		if detect == "" && prevent == "" {
			continue
		}
		t := PortTaps{
			Protocol: protocolName(int(cell.lo / portsPerProtocol)), Port: uint16(cell.lo % portsPerProtocol),
			EndPort: uint16((cell.hi - 1) % portsPerProtocol), Detect: detect, Prevent: prevent,
		}
		if n := len(taps); n > 0 && taps[n-1].continuedBy(t) {
			taps[n-1].EndPort = t.EndPort
			continue
		}
		taps = append(taps, t)
	}
	return taps
}

func (t PortTaps) continuedBy(next PortTaps) bool {
	return t.Protocol == next.Protocol && uint32(t.EndPort)+1 == uint32(next.Port) && t.Detect == next.Detect && t.Prevent == next.Prevent
}

// cell gives the taps of ports that nobody tells apart.
func (s *inspections) cell(direction Direction, looks []look, ports portRange) (detect, prevent string) {
	var detecting, preventing []*inspection
	for _, l := range looks {
		switch n := l.inspection; {
		case !l.ports.contains(ports):
		case !n.prevents():
			detecting = append(detecting, n)
		case len(preventing) == 0 || preventing[0].profile == n.profile:
			preventing = append(preventing, n)
		default:
			n.overlaps[preventing[0].label] = true
		}
	}
	return s.tap(direction, detecting), s.tap(direction, preventing)
}

// tap gives the key of the tap for these inspections.
func (s *inspections) tap(direction Direction, of []*inspection) string {
	if len(of) == 0 {
		return ""
	}
	t := Tap{Direction: direction, Mode: of[0].mode(), FailOpen: of[0].failOpen()}
	for _, n := range of {
		t.Inspections = append(t.Inspections, n.label)
		t.Profiles = append(t.Profiles, n.profile.Key)
	}
	slices.Sort(t.Inspections)
	slices.Sort(t.Profiles)
	t.Profiles = slices.Compact(t.Profiles)
	d := newDigest()
	d.text("tap")
	d.text(string(t.Mode))
	d.texts(t.Inspections)
	d.texts(t.Profiles)
	t.Key = d.key(direction)
	s.taps[t.Key] = &t
	return t.Key
}

func (s *inspections) planned() (profiles []Profile, taps []Tap) {
	for _, p := range s.profiles {
		profiles = append(profiles, p.Profile)
	}
	slices.SortFunc(profiles, func(a, b Profile) int { return cmp.Compare(a.Key, b.Key) })
	for _, key := range slices.Sorted(maps.Keys(s.taps)) {
		taps = append(taps, *s.taps[key])
	}
	return profiles, taps
}

// findings are sorted by name.
func (s *inspections) findings(x *index) []InspectionFindings {
	var all []InspectionFindings
	for _, n := range s.all {
		f := InspectionFindings{
			Inspection: n.name, Pods: len(n.selected.pods), LocalPods: len(n.local(x)), NotDone: n.notDone,
			Conditions: []metav1.Condition{n.accepted(x), n.resolved()},
		}
		if n.profile != nil {
			f.Profile = n.profile.Key
		}
		if others := slices.Sorted(maps.Keys(n.overlaps)); len(others) > 0 {
			f.NotDone = fmt.Sprintf("some of its connections go through the engine of the older inspection %s already, and through one only: give both "+
				"the same rule sets, variables and failure policy, or ports or Pods of their own", strings.Join(others, " and "))
		}
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b InspectionFindings) int { return compareNames(a.Inspection, b.Inspection) })
	return all
}

func (n *inspection) condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, ObservedGeneration: n.object.Generation, Reason: reason, Message: message}
}

func (n *inspection) accepted(x *index) metav1.Condition {
	if len(n.faults) > 0 {
		return n.condition(v1alpha1.ConditionAccepted, metav1.ConditionFalse, ReasonInvalid,
			join(n.faults)+" What is invalid is not inspected; the rest is.")
	}
	message := "The inspection is valid."
	if len(n.selected.pods) == 0 {
		message += " It selects no Pod at present."
	}
	if hosts := n.selected.host; len(hosts) > 0 {
		message += fmt.Sprintf(" It does not see Pods that use their node's network, such as %s.", x.pods[hosts[0]].name)
	}
	return n.condition(v1alpha1.ConditionAccepted, metav1.ConditionTrue, ReasonAccepted, message)
}

func (n *inspection) resolved() metav1.Condition {
	if len(n.dangling) > 0 {
		return n.condition(v1alpha1.ConditionResolvedRefs, metav1.ConditionFalse, n.dangling[0].reason, join(n.dangling))
	}
	return n.condition(v1alpha1.ConditionResolvedRefs, metav1.ConditionTrue, ReasonResolvedRefs, "All rule sets are there.")
}

// Reasons of ResolvedRefs=False of an inspection.
const (
	// ReasonRuleSetNotFound: a rule set that it names does not exist.
	ReasonRuleSetNotFound = "RuleSetNotFound"
	// ReasonRuleSetNotReady: a rule set that it names has no revision that an engine has loaded.
	ReasonRuleSetNotReady = "RuleSetNotReady"
)

// signatureIndex finds rule sets by name.
type signatureIndex struct {
	objects   map[SignatureRef]bool
	revisions map[SignatureRef]string
}

func newSignatureIndex(s *Snapshot) *signatureIndex {
	x := &signatureIndex{objects: map[SignatureRef]bool{}, revisions: map[SignatureRef]string{}}
	for i := range s.RuleSets {
		x.objects[SignatureRef{Kind: KindRuleSet, Namespace: s.RuleSets[i].Namespace, Name: s.RuleSets[i].Name}] = true
	}
	for i := range s.ClusterRuleSets {
		x.objects[SignatureRef{Kind: KindClusterRuleSet, Name: s.ClusterRuleSets[i].Name}] = true
	}
	for _, r := range s.Revisions {
		x.revisions[SignatureRef{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}] = r.Revision
	}
	return x
}

// resolve gives an inspection's rule sets, or what is wrong with any of them: an inspection by a part of its signatures would pass for
// one by all.
func (x *signatureIndex) resolve(n *v1alpha1.TrafficInspection) (refs []SignatureRef, problems []problem) {
	for i, r := range n.Spec.RuleSets {
		ref := SignatureRef{Kind: cmp.Or(r.Kind, KindRuleSet), Namespace: n.Namespace, Name: r.Name}
		if ref.Kind == KindClusterRuleSet {
			ref.Namespace = ""
		}
		revision, ok := x.revisions[ref]
		switch field := fmt.Sprintf("spec.ruleSets[%d]", i); {
		case ok:
			ref.Revision = revision
			refs = append(refs, ref)
		case x.objects[ref]:
			problems = append(problems, problem{ReasonRuleSetNotReady, fmt.Sprintf(
				"%s: %s %s has no revision yet that an engine has loaded: see its conditions; nothing is inspected until it has", field, ref.Kind, r.Name)})
		default:
			problems = append(problems, problem{ReasonRuleSetNotFound, fmt.Sprintf(
				"%s: there is no %s %s%s: create it, or correct the name; nothing is inspected until then", field, ref.Kind, r.Name, inNamespace(ref))})
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return refs, nil
}

func inNamespace(r SignatureRef) string {
	if r.Namespace == "" {
		return ""
	}
	return " in namespace " + r.Namespace
}
