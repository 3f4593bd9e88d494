package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Reasons of the conditions that a node adds to those of plan.Compile.
const (
	ReasonProgrammed          = "Programmed"
	ReasonNotProgrammed       = "NotProgrammed"
	ReasonRulesRefused        = "RulesRefused"
	ReasonPodsNotGoverned     = "PodsNotGoverned"
	ReasonEngineInspects      = "EngineInspects"
	ReasonEngineNotInspecting = "EngineNotInspecting"
	ReasonInterfacesChanged   = "InterfacesChanged"
	ReasonClientsUnknown      = "ClientsUnknown"
	ReasonSwitchDown          = "SwitchDown"
	ReasonFlowsOverwritten    = "FlowsOverwritten"
	ReasonReady               = "Ready"
	ReasonNotReady            = "NotReady"
	ReasonInvalid             = "Invalid"
)

// Troubles are what is wrong with a node for the moment; the zero value is a node without any.
type Troubles struct {
	// Switch is why the switch cannot be reached.
	Switch string
	// Engine is why the engine does not inspect.
	Engine string
	// Clients is why clients behind the node's own addresses cannot be told from the node itself. Nobody's connections from there pass.
	Clients string
	// Overwritten says what others did to the flows of late. They have been put back.
	Overwritten string
}

// Troubles gives what is wrong with the node now.
func (n *Node) Troubles() Troubles {
	b := n.Bridge()
	return Troubles{Switch: b.Down, Engine: n.EngineHealth().Reason, Clients: n.resolver.Fault(), Overwritten: b.Disturbed(time.Now())}
}

// degraded gives the condition Degraded, and whether policies are enforced nevertheless. links are sentences about interfaces.
func (t Troubles) degraded(links []string) (c metav1.Condition, enforced bool) {
	c = metav1.Condition{Type: v1alpha1.ConditionDegraded, Status: metav1.ConditionTrue}
	switch {
	case t.Switch != "":
		c.Reason, c.Message = ReasonSwitchDown, t.Switch
	case t.Overwritten != "":
		c.Reason, c.Message, enforced = ReasonFlowsOverwritten, t.Overwritten, t.Engine == ""
		if t.Engine != "" { // perhaps for want of the flows that lead probes to it
			c.Message += "; and the engine does not inspect: " + t.Engine
		}
	case t.Engine != "":
		c.Reason, c.Message = ReasonEngineNotInspecting, "the engine does not inspect: "+t.Engine+"; until it does, failurePolicy holds"
	case t.Clients != "":
		c.Reason, c.Message, enforced = ReasonClientsUnknown, "connections from the node's own addresses to governed ports are dropped: "+t.Clients, true
	case len(links) > 0:
		c.Reason, c.Message, enforced = ReasonInterfacesChanged, strings.Join(links[:min(len(links), 10)], "; "), true
	default:
		c.Status, c.Reason, c.Message, enforced = metav1.ConditionFalse, ReasonEngineInspects, "the engine inspects", true
	}
	return c, enforced
}

// Conditions gives a policy's conditions on this node: those of the compiler, and what became of it. It is pure; err is Sync's.
func (r *Report) Conditions(policy *v1alpha1.L7Policy, err error, troubles Troubles) []metav1.Condition {
	return r.conditions(policy, err, troubles, true)
}

// NodeConditions are Programmed, Degraded and Ready (and Stalled) as far as the node itself knows: what the compiler found in the
// policy is left out, since whoever has seen all of the cluster's objects says that better.
func (r *Report) NodeConditions(policy *v1alpha1.L7Policy, err error, troubles Troubles) []metav1.Condition {
	return r.conditions(policy, err, troubles, false)
}

func (r *Report) conditions(policy *v1alpha1.L7Policy, err error, troubles Troubles, findings bool) []metav1.Condition {
	name := policy.Namespace + "/" + policy.Name
	set := func(kind string, ok bool, good, bad, message string) metav1.Condition {
		c := metav1.Condition{
			Type: kind, Status: metav1.ConditionTrue, Reason: good, Message: message, ObservedGeneration: policy.Generation,
		}
		if !ok {
			c.Status, c.Reason = metav1.ConditionFalse, bad
		}
		return c
	}
	var all []metav1.Condition
	var found plan.PolicyFindings
	if f := r.Findings.For(types.NamespacedName{Namespace: policy.Namespace, Name: policy.Name}); f != nil {
		found = *f
		if findings {
			all = slices.Clone(f.Conditions)
		}
	}
	programmed := r.programmed(policy, found, err)
	all = append(all, programmed)
	changed, lost := r.linkFaults(name)
	degraded, enforced := troubles.degraded(changed)
	degraded.ObservedGeneration = policy.Generation
	all = append(all, degraded)

	ready, why := true, "everything that the policy says is enforced"
	stalled := ""
	for _, c := range all {
		wrong := c.Status == metav1.ConditionFalse
		if c.Type == v1alpha1.ConditionDegraded || c.Type == plan.ConditionShadowed || c.Type == plan.ConditionClientsHidden {
			// What is put back or set right again is told of, and does no harm.
			wrong = c.Type == v1alpha1.ConditionDegraded && (!enforced || lost)
		}
		if wrong && ready {
			ready, why = false, c.Message
		}
		if wrong && (c.Reason == ReasonInvalid || c.Reason == ReasonRulesRefused) {
			stalled = c.Message
		}
	}
	all = append(all, set(v1alpha1.ConditionReady, ready, ReasonReady, ReasonNotReady, why))
	if stalled != "" {
		all = append(all, set(v1alpha1.ConditionStalled, true, ReasonInvalid, "", stalled))
	}
	return all
}

// linkFaults lists what was changed at the interfaces of the policy's Pods, or at those that all Pods share. lost tells whether
// packets are lost for it still.
func (r *Report) linkFaults(policy string) (changed []string, lost bool) {
	for _, f := range r.Links {
		of := func(e plan.Edge) bool { return e.Pod == f.Pod && r.governs(policy, e) }
		if f.Pod.Name == "" || slices.ContainsFunc(r.Plan.Edges, of) {
			changed = append(changed, f.String())
			lost = lost || !f.Mended
		}
	}
	return changed, lost
}

// programmed tells whether the node does what the policy says.
func (r *Report) programmed(policy *v1alpha1.L7Policy, found plan.PolicyFindings, err error) metav1.Condition {
	name := policy.Namespace + "/" + policy.Name
	c := metav1.Condition{
		Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionFalse, ObservedGeneration: policy.Generation,
	}
	for _, f := range r.Refusals {
		if slices.Contains(f.Policies, name) {
			c.Reason, c.Message = ReasonRulesRefused, f.Reason+"; "+f.Instead
			return c
		}
	}
	if err != nil {
		c.Reason, c.Message = ReasonNotProgrammed, err.Error()
		return c
	}
	var failed []string
	for _, e := range r.Plan.Edges {
		if failure, ok := r.Failed[e.Pod]; ok && r.governs(name, e) {
			failed = append(failed, failure.Error())
		}
	}
	if len(failed) > 0 {
		slices.Sort(failed)
		c.Reason, c.Message = ReasonPodsNotGoverned, strings.Join(failed[:min(len(failed), 10)], "; ")
		return c
	}
	c.Status, c.Reason = metav1.ConditionTrue, ReasonProgrammed
	c.Message = fmt.Sprintf("rules and flows are in force for %d of the policy's Pods on this node", found.LocalPods)
	return c
}

func (r *Report) governs(policy string, e plan.Edge) bool {
	for _, key := range []string{e.Ingress, e.Egress} {
		if g := r.Plan.Group(key); g != nil && slices.Contains(g.Policies, policy) {
			return true
		}
	}
	return false
}
