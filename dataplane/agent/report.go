package agent

import (
	"strings"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/node"
)

// ReasonPeersUnresolved goes with programmed=false: a policy is enforced, but whom its peer selectors select is not known.
const ReasonPeersUnresolved = "PeersUnresolved"

// Reasons of a NodeInspection's conditions, beside those of package node.
const (
	ReasonStarting = "Starting"
	ReasonIntact   = "Intact"
	ReasonDetached = "Detached"
	ReasonLeaving  = "Leaving"
)

// Limits of the CRD.
const (
	mostPolicies = 2000
	longest      = 2048
)

// facts is all that a report is made of.
type facts struct {
	now     time.Time
	version string
	// waiting is why nothing is put in force by this agent yet; then what an earlier one reported of policies stays.
	waiting string
	// leaving says how far the agent is with leaving the node; detached that it has left.
	leaving  string
	detached bool
	last     *synced // nil before the first Sync
	troubles node.Troubles
	links    []node.LinkFault
	health   engine.Health
	engine   engine.Status
	ruleSets int
	counts   map[string]count
	outputs  metav1.Condition // zero where the Engine names none
	// signatures are those of inspections and rule sets.
	signatures signatureFacts
	sidecars   []sidecarFacts
	flows      []v1alpha1.NodeFlowExport // nil before exports are followed
	// before is the last report.
	before v1alpha1.NodeInspectionStatus
}

// report makes the node's report. It is pure.
func report(f facts) v1alpha1.NodeInspectionStatus {
	now := metav1.NewTime(f.now.Truncate(time.Second))
	s := v1alpha1.NodeInspectionStatus{Reported: &now, AgentVersion: cut(f.version, 64)}
	switch {
	case f.detached || f.leaving != "":
	case f.last == nil:
		s.Policies, s.PolicyCount, s.GovernedPods = f.before.Policies, f.before.PolicyCount, f.before.GovernedPods
		s.RuleSets, s.Inspections = f.before.RuleSets, f.before.Inspections
		s.FlowExports = f.before.FlowExports
	default:
		s.Policies, s.PolicyCount = policies(f)
		s.GovernedPods = governed(f.last)
		s.RuleSets, s.Inspections = ruleSetsReport(f), inspectionsReport(f)
		if s.FlowExports = f.flows; f.flows == nil {
			s.FlowExports = f.before.FlowExports
		}
		own := sidecarsReport(f.sidecars, f.signatures.records, f.now)
		s.Inspections = append(s.Inspections, own[:min(len(own), mostInspections-len(s.Inspections))]...)
	}
	if !f.detached {
		s.Engine = &v1alpha1.NodeEngine{
			Version: cut(f.engine.Version, 64), RuleSets: int32(f.ruleSets), Rules: int32(f.engine.Loaded.Rules), Restarts: int32(f.engine.Restarts),
		}
	}
	all := conditions(f)
	if f.outputs.Type != "" && !f.detached {
		all = append(all, f.outputs)
	}
	for _, c := range all {
		s.Conditions = append(s.Conditions, since(c, f))
	}
	return s
}

// governed counts the Pods that are behind the bridge.
func governed(s *synced) int32 {
	r := s.outcome.Report
	if r == nil || r.Plan == nil {
		return 0
	}
	count := 0
	for _, e := range r.Plan.Edges {
		if r.Failed[e.Pod] == nil {
			count++
		}
	}
	return int32(count)
}

// policies reports those that select Pods of the node, and counts them.
func policies(f facts) ([]v1alpha1.NodePolicy, int32) {
	r := f.last.outcome.Report
	all := []v1alpha1.NodePolicy{}
	for i := range f.last.choice.policies {
		p := &f.last.choice.policies[i]
		name := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
		found := r.Findings.For(name)
		if found == nil || found.LocalPods == 0 {
			continue
		}
		n := nodePolicy(p, r, f)
		n.Pods = int32(found.LocalPods)
		if missing := f.last.choice.unresolved[name]; len(missing) > 0 && n.Programmed {
			n.Programmed, n.Reason = false, ReasonPeersUnresolved
			n.Message = "whom its peer selectors select is not known: no AddressSlice for the keys " + strings.Join(missing, ", ") +
				", so these allow nobody; see whether Meerkat's manager runs"
		}
		n.Message, n.DegradedMessage = cut(n.Message, longest), cut(n.DegradedMessage, longest)
		all = append(all, n)
	}
	count := int32(len(all))
	return all[:min(len(all), mostPolicies)], count
}

// nodePolicy takes over what the node's conditions say.
func nodePolicy(p *v1alpha1.L7Policy, r *node.Report, f facts) v1alpha1.NodePolicy {
	with := *r
	with.Links = f.links
	n := v1alpha1.NodePolicy{Namespace: p.Namespace, Name: p.Name, ObservedGeneration: p.Generation}
	for _, c := range with.NodeConditions(p, f.last.outcome.Err, f.troubles) {
		switch c.Type {
		case v1alpha1.ConditionProgrammed:
			if n.Programmed = c.Status == metav1.ConditionTrue; !n.Programmed {
				n.Reason, n.Message = cut(c.Reason, 64), c.Message
			}
		case v1alpha1.ConditionDegraded:
			if c.Status == metav1.ConditionTrue {
				n.Degraded, n.DegradedMessage = cut(c.Reason, 64), c.Message
			}
		case v1alpha1.ConditionReady:
			n.Enforced = c.Status == metav1.ConditionTrue
		}
	}
	if have, ok := f.counts[p.Namespace+"/"+p.Name]; ok {
		last := metav1.NewTime(have.Last.Truncate(time.Second))
		n.Denied, n.Audited, n.LastDenied = have.Denied, have.Audited, &last
	}
	return n
}

// conditions are those of the node, without times.
func conditions(f facts) []metav1.Condition {
	if f.detached {
		return []metav1.Condition{
			condition(v1alpha1.ConditionReady, false, ReasonDetached, "the Engine is deleted, and Meerkat has left this node"),
			condition(v1alpha1.ConditionDetached, true, ReasonDetached, "every Pod has its own interface back, and nothing of Meerkat is left"),
		}
	}
	inspects := condition(v1alpha1.ConditionEngineInspecting, f.health.Healthy, node.ReasonEngineInspects, "packets of inspected connections come back from the engine")
	if !f.health.Healthy {
		inspects.Reason, inspects.Message = node.ReasonEngineNotInspecting, f.health.Reason
	}
	intact := condition(v1alpha1.ConditionFlowsIntact, true, ReasonIntact, "the switch holds the flows that are wanted, and nobody else changes them")
	switch {
	case f.troubles.Switch != "":
		intact = condition(v1alpha1.ConditionFlowsIntact, false, node.ReasonSwitchDown, f.troubles.Switch)
	case f.troubles.Overwritten != "":
		intact = condition(v1alpha1.ConditionFlowsIntact, false, node.ReasonFlowsOverwritten, f.troubles.Overwritten)
	}
	ready := condition(v1alpha1.ConditionReady, true, node.ReasonReady, "the last Sync did everything, the engine inspects, and nobody else changes the flows")
	switch {
	case f.leaving != "":
		left := condition(v1alpha1.ConditionDetached, false, ReasonLeaving, f.leaving)
		return []metav1.Condition{condition(v1alpha1.ConditionReady, false, ReasonLeaving, "the Engine is being deleted, and Meerkat leaves this node"), left}
	case f.waiting != "":
		ready = condition(v1alpha1.ConditionReady, false, ReasonStarting, "the agent does not put policies in force yet: "+f.waiting)
		if f.last == nil {
			intact.Status, intact.Reason, intact.Message = metav1.ConditionUnknown, ReasonStarting, f.waiting
		}
	case inspects.Status != metav1.ConditionTrue:
		ready = condition(v1alpha1.ConditionReady, false, inspects.Reason, inspects.Message)
	case intact.Status != metav1.ConditionTrue:
		ready = condition(v1alpha1.ConditionReady, false, intact.Reason, intact.Message)
	case f.last != nil && f.last.err() != nil:
		ready = condition(v1alpha1.ConditionReady, false, node.ReasonNotProgrammed, f.last.err().Error())
	}
	return []metav1.Condition{ready, inspects, intact}
}

func condition(kind string, status bool, reason, message string) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: cut(message, longest)}
	if status {
		c.Status = metav1.ConditionTrue
	}
	return c
}

// since says how long a condition has had its status: since the report before the last one with another.
func since(c metav1.Condition, f facts) metav1.Condition {
	c.LastTransitionTime = metav1.NewTime(f.now.Truncate(time.Second))
	for _, was := range f.before.Conditions {
		if was.Type == c.Type && was.Status == c.Status {
			c.LastTransitionTime = was.LastTransitionTime
			return c
		}
	}
	if c.Type == v1alpha1.ConditionEngineInspecting && f.health.Since.Before(f.now) && !f.health.Since.IsZero() {
		c.LastTransitionTime = metav1.NewTime(f.health.Since.Truncate(time.Second))
	}
	return c
}

// cut shortens a text to a number of bytes.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	const mark = "…"
	text = text[:most-len(mark)]
	for len(text) > 0 {
		if r, size := utf8.DecodeLastRuneInString(text); r != utf8.RuneError || size != 1 {
			break
		}
		text = text[:len(text)-1]
	}
	return text + mark
}
