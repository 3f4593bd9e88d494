package ruleset

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/fleet"
	"github.com/meerkat-dev/meerkat/controllers/ruleset/rollout"
)

// Reasons of conditions, beside those of package rollout and those that nodes report.
const (
	// ReasonAccepted and ReasonInvalid go with Accepted.
	ReasonAccepted = "Accepted"
	ReasonInvalid  = "Invalid"
	// ReasonResolvedRefs and ReasonSourceNotRead go with ResolvedRefs.
	ReasonResolvedRefs  = "ResolvedRefs"
	ReasonSourceNotRead = "SourceNotRead"
	// ReasonValidated goes with Validated=True, ReasonValidating and ReasonNoNode with Unknown: an engine is at it, or there is none.
	ReasonValidated  = "Validated"
	ReasonValidating = "Validating"
	ReasonNoNode     = "NoNode"
	// ReasonCanary and ReasonRolling go with Ready=False: the revision is on its way.
	ReasonCanary  = "Canary"
	ReasonRolling = "Rolling"
	// ReasonProgrammed, ReasonNoPods and ReasonPending go with Programmed.
	ReasonProgrammed = "Programmed"
	ReasonNoPods     = "NoPods"
	ReasonPending    = "Pending"
	// ReasonNodeNotReporting and ReasonEngineNotHealthy go with Degraded=True: a node that runs the rule set needs a look.
	ReasonNodeNotReporting = "NodeNotReporting"
	// ReasonHealthy goes with Degraded=False.
	ReasonHealthy = "NothingToLookAt"
	// ReasonReady goes with Ready=True.
	ReasonReady = "Ready"
)

const (
	// maxMessage is the length of a condition's message, in bytes, that reads well, and maxSourceError that of a source's error.
	maxMessage, maxSourceError = 4096, 1024
)

// facts is all that the conditions are made of.
type facts struct {
	generation int64
	before     *v1alpha1.RuleSetStatus
	// after is the status but for the conditions.
	after    *v1alpha1.RuleSetStatus
	readings []reading
	// unmade says that the spec or a source has changed, and that no revision could be made of it.
	unmade bool
	faults []error
	nodes  []rollout.Node
}

// conditions works out all conditions. It is pure.
func (f *facts) conditions(now time.Time) []metav1.Condition {
	accepted, resolved, validated := f.accepted(), f.resolved(), f.validated()
	programmed := f.programmed()
	all := []metav1.Condition{accepted, resolved, validated, programmed, f.degraded(resolved), f.ready(accepted, resolved, validated, programmed)}
	if stalled, is := f.stalled(accepted); is {
		all = append(all, stalled)
	}
	conditions := slices.Clone(f.before.Conditions)
	if len(all) == 6 {
		meta.RemoveStatusCondition(&conditions, v1alpha1.ConditionStalled)
	}
	for _, c := range all {
		c.ObservedGeneration, c.Message = f.generation, fleet.Cut(c.Message, maxMessage)
		c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
		meta.SetStatusCondition(&conditions, c)
	}
	return conditions
}

func condition(kind string, status metav1.ConditionStatus, reason, format string, args ...any) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func (f *facts) accepted() metav1.Condition {
	if len(f.faults) == 0 {
		return condition(v1alpha1.ConditionAccepted, metav1.ConditionTrue, ReasonAccepted, "The rule set is valid.")
	}
	var text []string
	for _, fault := range f.faults {
		text = append(text, fault.Error()+".")
	}
	return condition(v1alpha1.ConditionAccepted, metav1.ConditionFalse, ReasonInvalid, "%s", strings.Join(text, " "))
}

func (f *facts) resolved() metav1.Condition {
	var text []string
	for i := range f.readings {
		if err := f.readings[i].err; err != nil {
			text = append(text, fmt.Sprintf("The source %s cannot be read: %s.", f.readings[i].name, strings.TrimRight(fleet.Cut(err.Error(), maxSourceError), ". ")))
		}
	}
	if len(text) == 0 {
		return condition(v1alpha1.ConditionResolvedRefs, metav1.ConditionTrue, ReasonResolvedRefs, "All sources were read.")
	}
	if f.after.Revision != "" {
		text = append(text, "Nodes keep what was read before. It is tried again.")
	}
	return condition(v1alpha1.ConditionResolvedRefs, metav1.ConditionFalse, ReasonSourceNotRead, "%s", strings.Join(text, " "))
}

func (f *facts) validated() metav1.Condition {
	is := func(status metav1.ConditionStatus, reason, format string, args ...any) metav1.Condition {
		return condition(v1alpha1.ConditionValidated, status, reason, format, args...)
	}
	r := f.after.Rollout
	switch {
	case r == nil:
		return is(metav1.ConditionUnknown, ReasonPending, "There is no revision yet.")
	case r.Phase == v1alpha1.RolloutRefused:
		return is(metav1.ConditionFalse, r.Reason, "%s", r.Message)
	case r.Phase != v1alpha1.RolloutValidating:
		return is(metav1.ConditionTrue, ReasonValidated, "The engine loads the revision %s: %s.", r.Revision, f.counts())
	case r.Validator == "":
		return is(metav1.ConditionUnknown, ReasonNoNode, "No node's agent reports, so that no engine can validate the revision %s: create the Engine %s, or look at Meerkat's Pods.",
			r.Revision, v1alpha1.EngineName)
	}
	text := fmt.Sprintf("The engine of %s is to load the revision %s, apart from those that inspect.", r.Validator, r.Revision)
	i := slices.IndexFunc(f.nodes, func(n rollout.Node) bool { return n.Name == r.Validator })
	if i >= 0 && f.nodes[i].Report != nil {
		if v := f.nodes[i].Report.Validation; v != nil && v.Revision == r.Revision && v.Error != "" {
			text += " It could not yet: " + v.Error
		}
	}
	return is(metav1.ConditionUnknown, ReasonValidating, "%s", text)
}

func (f *facts) counts() string {
	c := f.after.Rules
	if c == nil {
		return "its rules were not counted"
	}
	text := fleet.Plural(int(c.Loaded), "rule", "rules")
	if c.Skipped > 0 {
		text += fmt.Sprintf(", and leaves %d out that are for what it does not have", c.Skipped)
	}
	return text
}

// programmed tells whether the nodes run what they are to run now, which need not be the newest.
func (f *facts) programmed() metav1.Condition {
	is := func(status metav1.ConditionStatus, reason, format string, args ...any) metav1.Condition {
		return condition(v1alpha1.ConditionProgrammed, status, reason, format, args...)
	}
	var total, running int
	var waiting []*rollout.Node
	for i := range f.nodes {
		n := &f.nodes[i]
		if !n.Needs {
			continue
		}
		total++
		should := f.after.RunsRevision(n.Name)
		if should != "" && n.Report != nil && n.Report.Revision == should {
			running++
		} else {
			waiting = append(waiting, n)
		}
	}
	switch {
	case total == 0:
		return is(metav1.ConditionTrue, ReasonNoPods, "No inspection with the rule set selects a Pod at present, so no node needs it.")
	case f.after.Revision == "" && running == 0:
		return is(metav1.ConditionFalse, ReasonPending, "%s, and there is no revision yet that they may run.", fleet.Plural(total, "node needs the rule set", "nodes need the rule set"))
	case running == total:
		return is(metav1.ConditionTrue, ReasonProgrammed, "%d of %s what it is to run.", running, fleet.Plural(total, "node runs", "nodes run"))
	}
	var waitingNames []string
	for _, n := range waiting {
		waitingNames = append(waitingNames, n.Name)
	}
	text, reason := fmt.Sprintf("%d of %s what it is to run. Waiting for %s.", running, fleet.Plural(total, "node runs", "nodes run"), fleet.Names(waitingNames)), ReasonPending
	for _, n := range waiting {
		if n.Report != nil && n.Report.Reason != "" {
			text, reason = text+" "+says(n), n.Report.Reason
			break
		}
	}
	return is(metav1.ConditionFalse, reason, "%s", text)
}

// degraded tells of all that needs a look.
func (f *facts) degraded(resolved metav1.Condition) metav1.Condition {
	is := func(reason, format string, args ...any) metav1.Condition {
		return condition(v1alpha1.ConditionDegraded, metav1.ConditionTrue, reason, format, args...)
	}
	if r := f.after.Rollout; r != nil && (r.Phase == v1alpha1.RolloutRefused || r.Phase == v1alpha1.RolloutRolledBack) {
		if f.after.Revision == "" {
			return is(r.Reason, "%s Nodes run none of its rules.", r.Message)
		}
		return is(r.Reason, "%s Nodes run the revision %s.", r.Message, f.after.Revision)
	}
	if resolved.Status == metav1.ConditionFalse {
		return is(resolved.Reason, "%s", resolved.Message)
	}
	for i := range f.nodes {
		switch n := &f.nodes[i]; {
		case !n.Needs:
		case !n.Reports:
			return is(ReasonNodeNotReporting, "%s does not report: look at Meerkat's Pod there. What it has loaded stays in force.", n.Name)
		case n.Report != nil && n.Report.Revision != "" && !n.Report.Healthy:
			return is(rollout.ReasonEngineNotHealthy, "The engine of %s does not inspect with the rule set at present. %s", n.Name, says(n))
		}
	}
	return condition(v1alpha1.ConditionDegraded, metav1.ConditionFalse, ReasonHealthy, "Nothing needs a look.")
}

// ready summarises.
func (f *facts) ready(accepted, resolved, validated, programmed metav1.Condition) metav1.Condition {
	is := func(status metav1.ConditionStatus, reason, format string, args ...any) metav1.Condition {
		return condition(v1alpha1.ConditionReady, status, reason, format, args...)
	}
	r := f.after.Rollout
	switch {
	case accepted.Status == metav1.ConditionFalse:
		return is(metav1.ConditionFalse, accepted.Reason, "%s", accepted.Message)
	case f.unmade && resolved.Status == metav1.ConditionFalse:
		return is(metav1.ConditionFalse, resolved.Reason, "%s", resolved.Message)
	case r == nil:
		return is(metav1.ConditionFalse, ReasonPending, "There is no revision yet.")
	case r.Phase == v1alpha1.RolloutRefused, r.Phase == v1alpha1.RolloutRolledBack:
		return is(metav1.ConditionFalse, r.Reason, "%s", r.Message)
	case r.Phase == v1alpha1.RolloutValidating:
		return is(metav1.ConditionFalse, validated.Reason, "%s", validated.Message)
	case r.Phase == v1alpha1.RolloutCanary:
		return is(metav1.ConditionFalse, ReasonCanary, "%s", f.canary())
	case r.Phase == v1alpha1.RolloutRolling:
		return is(metav1.ConditionFalse, ReasonRolling, "%d of %s the revision %s.", r.Updated, fleet.Plural(int(r.Desired), "node runs", "nodes run"), r.Revision)
	case programmed.Status != metav1.ConditionTrue:
		return is(metav1.ConditionFalse, programmed.Reason, "%s", programmed.Message)
	case r.Desired == 0:
		return is(metav1.ConditionTrue, ReasonReady, "The revision %s is validated. %s", r.Revision, programmed.Message)
	}
	return is(metav1.ConditionTrue, ReasonReady, "The revision %s runs on %s.", r.Revision, fleet.Plural(int(r.Desired), "node", "nodes"))
}

// canary tells how far the canaries are.
func (f *facts) canary() string {
	r := f.after.Rollout
	if len(r.Canaries) == 0 {
		return "No node that needs the rule set reports, so that none can run the revision " + r.Revision + " first: look at Meerkat's Pods."
	}
	var canaries []string
	for _, c := range r.Canaries {
		canaries = append(canaries, c.Node)
	}
	if r.Held == nil {
		return fmt.Sprintf("The revision %s is to run first on %s, and is not loaded there yet.", r.Revision, fleet.Names(canaries))
	}
	return fmt.Sprintf("The revision %s runs first on %s, since %s.", r.Revision, fleet.Names(canaries), r.Held.UTC().Format(time.RFC3339))
}

// stalled is true when only a person helps.
func (f *facts) stalled(accepted metav1.Condition) (metav1.Condition, bool) {
	if accepted.Status == metav1.ConditionFalse {
		return condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, accepted.Reason, "%s", accepted.Message), true
	}
	if r := f.after.Rollout; !f.unmade && r != nil && (r.Phase == v1alpha1.RolloutRefused || r.Phase == v1alpha1.RolloutRolledBack) {
		return condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, r.Reason, "%s", r.Message), true
	}
	return metav1.Condition{}, false
}

// says is what a node says of its trouble.
func says(n *rollout.Node) string {
	if n.Report == nil || n.Report.Reason == "" {
		return ""
	}
	return fmt.Sprintf("%s: %s: %s.", n.Name, n.Report.Reason, strings.TrimRight(n.Report.Message, ". "))
}
