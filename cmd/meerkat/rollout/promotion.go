package rollout

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Traffic is what a policy has judged.
type Traffic struct {
	// Connections is how many connections have come to the ports that the policy governs, since the nodes have its flows.
	Connections uint64
	// Unknown says why nobody knows; empty when Connections holds. NotAsked leaves it out of the judgement.
	Unknown  string
	NotAsked bool
}

// Promotion is whether a policy in mode Audit can be enforced, and how.
type Promotion struct {
	Policy string        `json:"policy"`
	Mode   v1alpha1.Mode `json:"mode"`
	// Asked is how long a time evidence was asked of, Covers how long a time it is of.
	Asked    time.Duration        `json:"asked"`
	Covers   time.Duration        `json:"covers"`
	To       time.Time            `json:"to"`
	Evidence PolicyReport         `json:"evidence"`
	Traffic  Traffic              `json:"traffic"`
	Nodes    *v1alpha1.NodeCounts `json:"nodes,omitempty"`
	// Against are what stands against it, each a sentence; empty when nothing does.
	Against []string `json:"against,omitempty"`
	// Patch is the JSON patch that enforces the policy, if it is still the one that the evidence is of.
	Patch json.RawMessage `json:"patch"`
}

// Judge tells whether a policy can be enforced.
func (r *Report) Judge(p *v1alpha1.L7Policy, traffic Traffic, neighbours []string) *Promotion {
	out := &Promotion{
		Policy: p.Namespace + "/" + p.Name, Mode: p.Spec.Mode, Asked: r.To.Sub(r.From), To: r.To, Traffic: traffic, Nodes: p.Status.Nodes, Patch: patchOf(p),
	}
	for i := range r.Policies {
		if r.Policies[i].Policy == out.Policy {
			out.Evidence = r.Policies[i]
		}
	}
	out.Covers = r.To.Sub(out.Evidence.From)
	e := &out.Evidence
	if e.Count > 0 {
		out.against("it would have denied %s: allow what is meant to be allowed, or stop who asks", count(e.Count, "request", "requests"))
	}
	if out.Covers < out.Asked {
		out.against("evidence is incomplete: the policy is as it is for %s only, and evidence of %s was asked for: wait, or ask for less with --since",
			short(out.Covers), short(out.Asked))
	}
	for _, g := range e.Gaps {
		out.against("evidence is incomplete: %s", g.Why)
	}
	switch {
	case traffic.NotAsked:
	case traffic.Unknown != "":
		out.against("evidence is incomplete: how much traffic the policy saw is not known (%s); --no-traffic goes without", traffic.Unknown)
	case traffic.Connections == 0:
		out.against("evidence is incomplete: no connection has come to the ports that the policy governs, so it had nothing to judge")
	}
	if len(neighbours) > 0 {
		out.against("what only the rules of %s allow would be denied, since they are in mode Audit and govern the same ports of the same Pods: "+
			"make one policy of them, or enforce them together", strings.Join(neighbours, ", "))
	}
	out.inForce(p)
	return out
}

// inForce notes where the policy is not applied as it is written.
func (o *Promotion) inForce(p *v1alpha1.L7Policy) {
	s := &p.Status
	switch {
	case s.ObservedGeneration < p.Generation:
		o.against("the manager has not yet looked at its last change: wait a moment")
	case s.Nodes == nil || s.Nodes.Desired == 0:
		o.against("it selects no Pod: nothing was judged by it")
	case s.Nodes.Programmed < s.Nodes.Desired:
		o.against("it is in force on %d of %d nodes; not on %s", s.Nodes.Programmed, s.Nodes.Desired, strings.Join(s.Nodes.Failing, ", "))
	}
	if c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionDegraded); c != nil && c.Status == metav1.ConditionTrue {
		o.against("it is degraded: %s", c.Message)
	}
	if c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady); c == nil || c.Status != metav1.ConditionTrue {
		message := "nothing is said of it yet"
		if c != nil {
			message = c.Message
		}
		o.against("it is not ready: %s", message)
	}
}

func (o *Promotion) against(format string, args ...any) {
	o.Against = append(o.Against, fmt.Sprintf(format, args...))
}

// patchOf makes the JSON patch. It fails when the policy's spec was changed since: then the evidence is of another one.
func patchOf(p *v1alpha1.L7Policy) json.RawMessage {
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	patch := []operation{}
	if p.Spec.Mode == v1alpha1.ModeAudit {
		patch = append(patch, operation{"test", "/metadata/generation", p.Generation}, operation{"replace", "/spec/mode", v1alpha1.ModeEnforce})
	}
	text, _ := json.Marshal(patch) // of strings and a number
	return text
}
