package convert

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// antrea converts a NetworkPolicy or ClusterNetworkPolicy of Antrea: a policy for each group of Pods that it, or a rule of it, is applied
// to. There the first rule that matches decides, and what no rule matches is left to other policies; an L7Policy is an allow-list.
func (c *converter) antrea(d Document) ([]v1alpha1.L7Policy, error) {
	var p antreaPolicy
	if err := strictly(d.JSON, &p); err != nil {
		return nil, err
	}
	wide := d.Kind == "ClusterNetworkPolicy"
	c.once(Aside, "spec.priority", "an L7Policy has no order: policies of one Pod add up. Look at what policies of other tiers and priorities deny")
	var targets []antreaTarget // in the order in which they come
	for _, rules := range [][]antreaRule{p.Spec.Ingress, p.Spec.Egress} {
		for i := range rules {
			targets = append(targets, rules[i].AppliedTo...)
		}
	}
	targets = slices.CompactFunc(append(slices.Clone(p.Spec.AppliedTo), targets...), sameTarget)
	if len(targets) == 0 {
		return nil, errors.New("neither it nor a rule has appliedTo, so that it is for no Pod")
	}
	var all []v1alpha1.L7Policy
	for i := range targets {
		if slices.ContainsFunc(targets[:i], func(t antreaTarget) bool { return sameTarget(t, targets[i]) }) {
			continue
		}
		policies, err := c.antreaFor(&p, &targets[i], wide)
		if err != nil {
			return nil, err
		}
		all = append(all, policies...)
	}
	names := map[string]int{}
	for i := range all {
		key := all[i].Namespace + "/" + all[i].Name
		if names[key]++; names[key] > 1 {
			all[i].Name = fmt.Sprintf("%s-%d", all[i].Name, names[key])
		}
	}
	return all, nil
}

func sameTarget(a, b antreaTarget) bool {
	x, _ := yaml.Marshal(a) // plain data
	y, _ := yaml.Marshal(b)
	return string(x) == string(y)
}

// antreaFor converts what a policy says of one group of Pods.
func (c *converter) antreaFor(p *antreaPolicy, target *antreaTarget, wide bool) ([]v1alpha1.L7Policy, error) {
	if target.ExternalEntitySelector != nil || target.Group != "" || target.ServiceAccount != nil || target.Service != nil || target.NodeSelector != nil {
		c.add(Wider, "spec.appliedTo", "not converted where it is applied to groups, Services, service accounts, nodes or external entities: an L7Policy "+
			"selects Pods by their labels; write a policy for these Pods by hand")
		return nil, nil
	}
	namespaces := []string{p.Namespace}
	if wide {
		selector := target.NamespaceSelector
		if selector == nil {
			selector = &metav1.LabelSelector{}
		}
		var err error
		if namespaces, err = c.selected(selector); err != nil {
			return nil, fmt.Errorf("spec.appliedTo: %w", err)
		}
	}
	template := newPolicy("", p.Name)
	template.Spec.Scope = v1alpha1.ScopeNamedPorts
	if target.PodSelector != nil {
		template.Spec.PodSelector = *target.PodSelector
	}
	in := c.antreaDirection("spec.ingress", "ingress", p.Spec.AppliedTo, target, p.Spec.Ingress, wide)
	out := c.antreaDirection("spec.egress", "egress", p.Spec.AppliedTo, target, p.Spec.Egress, wide)
	all := template
	all.Spec.Scope = v1alpha1.ScopeAllPorts
	for _, part := range []struct {
		list *allowList
		to   func(*v1alpha1.L7Policy, []allowed)
	}{{in, setIngress}, {out, setEgress}} {
		switch {
		case part.list == nil:
		case part.list.closed:
			part.to(&all, part.list.rules)
		case len(part.list.rules) > 0:
			part.to(&template, part.list.rules)
		default:
			c.add(Aside, part.list.path, "not converted: it denies nothing")
		}
	}
	var made []v1alpha1.L7Policy
	for _, one := range []v1alpha1.L7Policy{all, template} {
		if one.Spec.Ingress == nil && one.Spec.Egress == nil {
			continue
		}
		for _, namespace := range namespaces {
			policy := *one.DeepCopy()
			policy.Namespace = namespace
			made = append(made, split(policy)...)
		}
	}
	return made, nil
}

func setIngress(p *v1alpha1.L7Policy, rules []allowed) {
	p.Spec.Ingress = []v1alpha1.IngressRule{}
	for _, r := range rules {
		rule := v1alpha1.IngressRule{Name: r.name, Ports: r.ports, L7: r.l7}
		for _, peer := range r.peers {
			rule.From = append(rule.From, peer.Peer)
		}
		p.Spec.Ingress = append(p.Spec.Ingress, rule)
	}
}

func setEgress(p *v1alpha1.L7Policy, rules []allowed) {
	p.Spec.Egress = []v1alpha1.EgressRule{}
	for _, r := range rules {
		p.Spec.Egress = append(p.Spec.Egress, v1alpha1.EgressRule{Name: r.name, To: r.peers, Ports: r.ports, L7: r.l7})
	}
}

// ruleName makes a name of a rule's own, or of its place.
func ruleName(name, direction string, i int, taken map[string]bool) string {
	made := strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, name), "-")
	made = strings.Trim(made[:min(len(made), 50)], "-")
	if made == "" || taken[made] {
		made = fmt.Sprintf("%s-%d", direction, i+1)
	}
	taken[made] = true
	return made
}
