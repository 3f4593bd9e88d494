package agent

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// ReasonNotDone goes with programmed=false: the node does not do the inspection, or not all of it, for want of an engine.
const ReasonNotDone = "NotDone"

// Limits of the CRD.
const (
	mostInspections = 1000
	mostRuleSets    = 256
)

// signatureFacts is what the report of inspections and rule sets is made of.
type signatureFacts struct {
	engines   []node.SignatureEngine
	records   alertRecords
	validated map[plan.SignatureRef]*v1alpha1.NodeValidation
}

// of is the engine of a profile; nil for none.
func (f *signatureFacts) of(profile string) *node.SignatureEngine {
	for i := range f.engines {
		if f.engines[i].Profile == profile {
			return &f.engines[i]
		}
	}
	return nil
}

// ruleSetsReport reports the rule sets that the node needs, and those that it has validated.
func ruleSetsReport(f facts) []v1alpha1.NodeRuleSet {
	var all []v1alpha1.NodeRuleSet
	loaded := loadedRevisions(f.signatures.engines)
	for i := range f.last.ruleSets {
		s := &f.last.ruleSets[i]
		n := v1alpha1.NodeRuleSet{Kind: s.name.Kind, Namespace: s.name.Namespace, Name: s.name.Name, Validation: f.signatures.validated[s.name]}
		if !s.needed && n.Validation == nil {
			continue
		}
		if s.needed {
			describeRuleSet(&n, s, loaded[s.name.Label()], f)
		}
		n.Message = cut(n.Message, longest)
		all = append(all, n)
	}
	return all[:min(len(all), mostRuleSets)]
}

// describeRuleSet tells what the engines have loaded of a rule set, and how they fare.
func describeRuleSet(n *v1alpha1.NodeRuleSet, s *ruleSet, loaded ruleSetRecord, f facts) {
	engines, why := enginesOf(s, f)
	if len(engines) > 0 && loaded.Revision == "" { // they change over
		loaded = f.signatures.records.RuleSets[s.name.Label()]
	}
	n.Healthy = len(engines) > 0
	for _, e := range engines {
		if len(e.RuleSets) == 0 {
			loaded.Revision = "" // one that has just started
		}
		if !e.Status.Health.Healthy {
			n.Healthy, why = false, cmp.Or(why, &trouble{node.ReasonEngineNotInspecting, e.Status.Health.Reason})
		}
	}
	if len(engines) > 0 && loaded.Revision != "" {
		record := f.signatures.records.RuleSets[s.name.Label()]
		if record.Revision != loaded.Revision {
			record = loaded // it is counted from now on
		}
		at := metav1.NewTime(record.Loaded.UTC().Truncate(time.Second))
		n.Revision, n.Loaded, n.Alerts, n.Drops = record.Revision, &at, record.Alerts, record.Drops
	}
	switch {
	case s.why != nil:
		why = s.why
	case why != nil:
	case s.target == "":
		why = &trouble{ReasonNotLoaded, "there is no revision yet that this node may run"}
	case n.Revision != s.target:
		why = &trouble{ReasonNotLoaded, fmt.Sprintf("the revision %s is not loaded yet", s.target)}
	}
	if why != nil && (n.Revision != s.target || !n.Healthy) {
		n.Reason, n.Message = why.reason, why.message
	}
}

// enginesOf are those engines that are to run a rule set, and what became of that, should it have failed.
func enginesOf(s *ruleSet, f facts) (engines []*node.SignatureEngine, why *trouble) {
	r := f.last.outcome.Report
	if r == nil || r.Plan == nil {
		return nil, nil
	}
	for i := range r.Plan.Profiles {
		p := &r.Plan.Profiles[i]
		if !slices.ContainsFunc(p.RuleSets, func(ref plan.SignatureRef) bool { return ref.Label() == s.name.Label() && ref.Kind == s.name.Kind }) {
			continue
		}
		if err := r.Signatures[p.Key]; err != nil {
			why = cmp.Or(why, troubleOf(err))
		}
		if e := f.signatures.of(p.Key); e != nil {
			engines = append(engines, e)
		}
	}
	return engines, why
}

// troubleOf tells of an engine's error.
func troubleOf(err error) *trouble {
	if refused, _ := node.Refused(err); refused {
		return &trouble{node.ReasonRulesRefused, err.Error()}
	}
	if errors.Is(err, node.ErrLoading) {
		return &trouble{ReasonNotLoaded, err.Error()}
	}
	return &trouble{node.ReasonEngineNotInspecting, err.Error()}
}

// inspectionsReport reports the inspections that select Pods of the node.
func inspectionsReport(f facts) []v1alpha1.NodeTrafficInspection {
	var all []v1alpha1.NodeTrafficInspection
	for i := range f.last.inspections {
		o := &f.last.inspections[i]
		found := f.last.outcome.Report.Findings.InspectionFor(types.NamespacedName{Namespace: o.Namespace, Name: o.Name})
		if found == nil || found.LocalPods == 0 || o.Spec.Placement == v1alpha1.PlacementSidecar {
			continue
		}
		n := v1alpha1.NodeTrafficInspection{Namespace: o.Namespace, Name: o.Name, ObservedGeneration: o.Generation, Pods: int32(found.LocalPods)}
		j := inspectionJudge{facts: f, object: o, found: found, name: o.Namespace + "/" + o.Name, engine: f.signatures.of(found.Profile)}
		if t := j.notProgrammed(); t != nil {
			n.Reason, n.Message = cut(t.reason, 64), cut(t.message, longest)
		} else {
			n.Programmed = true
		}
		degraded, inspected := j.degraded()
		if degraded != nil {
			n.Degraded, n.DegradedMessage = cut(degraded.reason, 64), cut(degraded.message, longest)
		}
		n.Inspected = inspected
		if record, ok := f.signatures.records.Inspections[j.name]; ok {
			n.Alerts, n.LastSignatures = record.Alerts.DeepCopy(), record.last()
		}
		all = append(all, n)
	}
	return all[:min(len(all), mostInspections)]
}

// inspectionJudge says what became of one inspection on this node.
type inspectionJudge struct {
	facts
	object *v1alpha1.TrafficInspection
	found  *plan.InspectionFindings
	name   string
	engine *node.SignatureEngine // nil for none
}

// notProgrammed says why the node does not do what the inspection says; nil when it does.
func (j *inspectionJudge) notProgrammed() *trouble {
	r := j.last.outcome.Report
	for _, c := range j.found.Conditions {
		if c.Status != metav1.ConditionFalse {
			continue
		}
		if why := j.ruleSetTrouble(); why != nil && c.Type == v1alpha1.ConditionResolvedRefs {
			return why
		}
		return &trouble{c.Reason, c.Message}
	}
	if err := j.last.outcome.Err; err != nil && !r.Committed {
		return &trouble{node.ReasonNotProgrammed, err.Error()}
	}
	if j.found.NotDone != "" {
		return &trouble{ReasonNotDone, j.found.NotDone}
	}
	if why := j.ruleSetTrouble(); why != nil && why.reason == node.ReasonRulesRefused {
		return why
	}
	if err := r.Signatures[j.found.Profile]; err != nil && !j.loaded() {
		return troubleOf(err)
	}
	if j.engine == nil {
		return &trouble{node.ReasonNotProgrammed, "its engine has not started yet"}
	}
	if failed := j.failedPods(); len(failed) > 0 {
		return &trouble{node.ReasonPodsNotGoverned, strings.Join(failed[:min(len(failed), 10)], "; ")}
	}
	return nil
}

// ruleSetTrouble is why the node does not run the revision of one of its rule sets that it is to run; nil when it does.
func (j *inspectionJudge) ruleSetTrouble() *trouble {
	for i := range j.object.Spec.RuleSets {
		ref := &j.object.Spec.RuleSets[i]
		for k := range j.last.ruleSets {
			s := &j.last.ruleSets[k]
			if s.name.Kind == ref.KindOf() && s.name.Name == ref.Name && (s.name.Kind == plan.KindClusterRuleSet || s.name.Namespace == j.object.Namespace) && s.why != nil {
				return &trouble{s.why.reason, s.name.Label() + ": " + s.why.message}
			}
		}
	}
	return nil
}

// loaded tells whether the engine has loaded the revisions that the plan says.
func (j *inspectionJudge) loaded() bool {
	p := j.last.outcome.Report.Plan.Profile(j.found.Profile)
	return p != nil && j.engine != nil && slices.Equal(p.RuleSets, j.engine.RuleSets)
}

// failedPods says of which of its Pods the traffic does not come by.
func (j *inspectionJudge) failedPods() []string {
	r := j.last.outcome.Report
	var failed []string
	for _, e := range r.Plan.Edges {
		if err := r.Failed[e.Pod]; err != nil && j.taps(e) {
			failed = append(failed, err.Error())
		}
	}
	slices.Sort(failed)
	return failed
}

// taps tells whether the inspection looks at connections of an edge.
func (j *inspectionJudge) taps(e plan.Edge) bool {
	p := j.last.outcome.Report.Plan
	for _, key := range []string{e.Ingress, e.Egress} {
		g := p.Group(key)
		if g == nil {
			continue
		}
		for _, ports := range g.Taps {
			for _, key := range []string{ports.Detect, ports.Prevent} {
				if t := p.Tap(key); t != nil && slices.Contains(t.Inspections, j.name) {
					return true
				}
			}
		}
	}
	return false
}

// degraded says what needs a look, and whether an engine looks at the traffic now.
func (j *inspectionJudge) degraded() (why *trouble, inspected bool) {
	prevents := j.object.Spec.Mode == v1alpha1.InspectionPrevent
	inspected = j.engine != nil && j.engine.Status.Health.Healthy && len(j.engine.RuleSets) > 0
	var links []string
	for _, l := range j.links {
		of := func(e plan.Edge) bool { return e.Pod == l.Pod && j.taps(e) }
		if l.Pod.Name != "" && slices.ContainsFunc(j.last.outcome.Report.Plan.Edges, of) {
			links = append(links, l.String())
		}
	}
	t := j.ruleSetTrouble()
	switch {
	case j.troubles.Switch != "":
		return &trouble{node.ReasonSwitchDown, j.troubles.Switch}, false
	case j.engine != nil && !j.engine.Status.Health.Healthy:
		message := "its engine does not inspect: " + j.engine.Status.Health.Reason
		if prevents {
			message += "; until it does, failurePolicy holds"
		}
		return &trouble{node.ReasonEngineNotInspecting, message}, false
	case j.troubles.Overwritten != "":
		return &trouble{node.ReasonFlowsOverwritten, j.troubles.Overwritten}, inspected
	case t != nil && t.reason == ReasonRevisionNotRead && j.found.Profile != "":
		return t, inspected
	case len(links) > 0:
		return &trouble{node.ReasonInterfacesChanged, strings.Join(links[:min(len(links), 10)], "; ")}, inspected
	}
	return nil, inspected
}
