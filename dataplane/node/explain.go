package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
	suricatarules "github.com/meerkat-dev/meerkat/suricata-rules"
)

// Explain tells what a policy ("namespace/name") has become on the node.
func (n *Node) Explain(ctx context.Context, policy string) (*trace.Policy, error) {
	counter, ok := n.cfg.Switch.(openflow.Counter)
	if !ok {
		return nil, errors.New("the node's switch cannot count")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	e := &trace.Policy{Node: n.cfg.Name, Pods: []string{}}
	groups := map[uint32]bool{}
	for _, g := range n.current.plan.Groups {
		if slices.Contains(g.Policies, policy) {
			groups[n.current.numbers.Groups[g.Key]] = true
		}
	}
	for _, edge := range n.current.plan.Edges {
		var directions []string
		for _, key := range []string{edge.Ingress, edge.Egress} {
			if g := n.current.plan.Group(key); g != nil && slices.Contains(g.Policies, policy) {
				directions = append(directions, strings.ToLower(string(g.Direction)))
			}
		}
		if len(directions) > 0 {
			e.Pods = append(e.Pods, fmt.Sprintf("%s (%s)", edge.Pod, strings.Join(directions, ", ")))
		}
	}
	for _, r := range n.current.refusals {
		if slices.Contains(r.Policies, policy) {
			e.Refused = append(e.Refused, r.Reason+": "+r.Instead)
		}
	}
	n.explainRules(e, policy)
	counts, err := counter.FlowCounts(ctx)
	if err != nil {
		return nil, err
	}
	n.explainFlows(e, policy, groups, counts)
	return e, nil
}

func (n *Node) explainRules(e *trace.Policy, policy string) {
	for _, set := range n.current.plan.RuleSets {
		part := slices.ContainsFunc(set.Entries, func(entry l7.Entry) bool { return entry.Policy == policy })
		if !part && !slices.Contains(set.Policies, policy) {
			continue
		}
		id := n.current.numbers.RuleSets[set.Key]
		rules := trace.CompiledRules{Inspection: n.inspection(id, false)}
		if compiled, err := suricatarules.Compile(n.rules.loaded[id]); err == nil {
			for _, r := range append(compiled.Firewall, compiled.Detect...) {
				rules.Rules = append(rules.Rules, r.Text)
			}
		}
		e.RuleSets = append(e.RuleSets, rules)
	}
}

// explainFlows lists the flows that are there for the policy's groups, and those that deny in its name.
func (n *Node) explainFlows(e *trace.Policy, policy string, groups map[uint32]bool, counts map[string]uint64) {
	b, names := n.render(n.current.plan, n.current.numbers), n.policyNames()
	for i := range b.Flows {
		f := &b.Flows[i]
		group, ofGroup := openflow.GroupOf(f.Cookie)
		denial, ofDenial := openflow.DenialOf(f.Cookie)
		if (!ofGroup || !groups[group]) && (!ofDenial || !slices.Contains(n.denials[denial].Policies, policy)) {
			continue
		}
		e.Flows = append(e.Flows, trace.CountedFlow{
			Table: openflow.TableName(f.Table), Priority: f.Priority, Match: f.Match, Actions: f.Actions, What: names.Replace(f.Comment),
			Packets: counts[openflow.FlowKey(f)],
		})
	}
}
