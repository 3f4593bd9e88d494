package convert

import (
	"errors"
	"fmt"
	"slices"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// cilium converts a CiliumNetworkPolicy or CiliumClusterwideNetworkPolicy: a policy for each of its rules, and for each of the namespaces
// that a cluster-wide one is for.
func (c *converter) cilium(d Document) ([]v1alpha1.L7Policy, error) {
	var p ciliumPolicy
	if err := strictly(d.JSON, &p); err != nil {
		return nil, err
	}
	specs, paths := p.Specs, []string(nil)
	for i := range specs {
		paths = append(paths, fmt.Sprintf("specs[%d]", i))
	}
	if p.Spec != nil {
		specs, paths = append([]ciliumRule{*p.Spec}, specs...), append([]string{"spec"}, paths...)
	}
	if len(specs) == 0 {
		return nil, errors.New("it has neither spec nor specs")
	}
	var all []v1alpha1.L7Policy
	for i := range specs {
		name := p.Name
		if len(specs) > 1 {
			name = fmt.Sprintf("%s-%d", p.Name, i+1)
		}
		policies, err := c.ciliumSpec(paths[i], p.Namespace, name, d.Kind == "CiliumClusterwideNetworkPolicy", &specs[i])
		if err != nil {
			return nil, err
		}
		all = append(all, policies...)
	}
	return all, nil
}

func (c *converter) ciliumSpec(path, namespace, name string, wide bool, s *ciliumRule) ([]v1alpha1.L7Policy, error) {
	if s.EndpointSelector == nil {
		c.add(Wider, path+".nodeSelector", "not converted: an L7Policy is for Pods, not for nodes; keep this policy in Cilium")
		return nil, nil
	}
	own := c.ciliumSelector(path+".endpointSelector", s.EndpointSelector, wide)
	if own == nil {
		return nil, fmt.Errorf("%s.endpointSelector has no equal, so that it is not known whom the policy is for", path)
	}
	namespaces := []string{namespace}
	if wide {
		var err error
		if namespaces, err = c.selected(own.NamespaceSelector); err != nil {
			return nil, fmt.Errorf("%s.endpointSelector: %w", path, err)
		}
	} else if own.NamespaceSelector != nil {
		if exactly, ok := oneNamespace(own.NamespaceSelector); !ok || exactly != namespace {
			return nil, fmt.Errorf("%s.endpointSelector names another namespace than the policy's own, so that it is for no Pod", path)
		}
	}
	for _, deny := range []struct {
		field string
		rules int
	}{{"ingressDeny", len(s.IngressDeny)}, {"egressDeny", len(s.EgressDeny)}} {
		if deny.rules == 0 {
			continue
		}
		if c.Strict {
			return nil, fmt.Errorf("%s.%s has no equal, since an L7Policy only says what passes; take it away, and leave what it denies out of "+
				"the rules that allow", path, deny.field)
		}
		c.add(Wider, path+"."+deny.field, "not converted: an L7Policy only says what passes; what these rules deny passes where another rule allows it")
	}
	template := newPolicy("", name)
	template.Spec.PodSelector = *own.PodSelector
	if c.isolates(path, "ingress", s.EnableDefaultDeny.Ingress, len(s.Ingress)+len(s.IngressDeny), ingressHasL7(s.Ingress)) {
		template.Spec.Ingress = []v1alpha1.IngressRule{}
		for i := range s.Ingress {
			template.Spec.Ingress = append(template.Spec.Ingress, c.ciliumIngress(fmt.Sprintf("%s.ingress[%d]", path, i), fmt.Sprintf("ingress-%d", i+1), wide, &s.Ingress[i])...)
		}
	}
	if c.isolates(path, "egress", s.EnableDefaultDeny.Egress, len(s.Egress)+len(s.EgressDeny), egressHasL7(s.Egress)) {
		template.Spec.Egress = []v1alpha1.EgressRule{}
		for i := range s.Egress {
			template.Spec.Egress = append(template.Spec.Egress, c.ciliumEgress(fmt.Sprintf("%s.egress[%d]", path, i), fmt.Sprintf("egress-%d", i+1), wide, &s.Egress[i])...)
		}
	}
	if template.Spec.Ingress == nil && template.Spec.Egress == nil {
		c.add(Aside, path, "not converted: it isolates no direction, so that by itself it denies nothing")
		return nil, nil
	}
	template.Spec.Scope = v1alpha1.ScopeAllPorts
	var all []v1alpha1.L7Policy
	for _, n := range namespaces {
		p := *template.DeepCopy()
		p.Namespace = n
		all = append(all, split(p)...)
	}
	return all, nil
}

// isolates tells whether a direction has what no rule allows denied.
func (c *converter) isolates(path, direction string, given *bool, rules int, l7 bool) bool {
	if given == nil || *given {
		return given != nil || rules > 0
	}
	if l7 {
		c.add(Wider, path+".enableDefaultDeny."+direction, "not converted: an L7Policy that judges requests denies all others on its ports, "+
			"while these rules deny none but those; write a policy for these ports by hand")
	}
	return false
}

func ingressHasL7(rules []ciliumIngress) bool {
	return slices.ContainsFunc(rules, func(r ciliumIngress) bool { return hasL7(r.ToPorts) })
}

func egressHasL7(rules []ciliumEgress) bool {
	return slices.ContainsFunc(rules, func(r ciliumEgress) bool { return hasL7(r.ToPorts) })
}

func hasL7(ports []ciliumPorts) bool {
	return slices.ContainsFunc(ports, func(p ciliumPorts) bool { return p.Rules != nil || len(p.ServerNames) > 0 })
}

func (c *converter) ciliumIngress(path, name string, wide bool, r *ciliumIngress) []v1alpha1.IngressRule {
	peers := c.newPeers(wide)
	peers.endpoints(path+".fromEndpoints", r.FromEndpoints)
	peers.cidrs(path+".fromCIDR", r.FromCIDR)
	peers.cidrSets(path+".fromCIDRSet", r.FromCIDRSet)
	peers.entities(path+".fromEntities", r.FromEntities)
	peers.unknown(path+".fromGroups", r.FromGroups)
	peers.unknown(path+".fromNodes", r.FromNodes)
	if len(r.FromRequires) > 0 {
		c.add(Stricter, path+".fromRequires", "the rule is left out: an L7Policy has no requirements beside its peers; write them into the selectors")
		return nil
	}
	c.authentication(path, r.Authentication)
	ports, ok := c.ciliumRulePorts(path, name, peers, r.ToPorts, len(r.ICMPs))
	if !ok {
		return nil
	}
	var all []v1alpha1.IngressRule
	for _, p := range ports {
		rule := v1alpha1.IngressRule{Name: p.name, Ports: p.ports, L7: p.l7}
		for _, peer := range peers.all {
			rule.From = append(rule.From, peer.Peer)
		}
		all = append(all, rule)
	}
	return all
}

func (c *converter) ciliumEgress(path, name string, wide bool, r *ciliumEgress) []v1alpha1.EgressRule {
	peers := c.newPeers(wide)
	peers.endpoints(path+".toEndpoints", r.ToEndpoints)
	peers.cidrs(path+".toCIDR", r.ToCIDR)
	peers.cidrSets(path+".toCIDRSet", r.ToCIDRSet)
	peers.entities(path+".toEntities", r.ToEntities)
	peers.services(path+".toServices", r.ToServices)
	peers.names(path+".toFQDNs", r.ToFQDNs)
	peers.unknown(path+".toGroups", r.ToGroups)
	peers.unknown(path+".toNodes", r.ToNodes)
	if len(r.ToRequires) > 0 {
		c.add(Stricter, path+".toRequires", "the rule is left out: an L7Policy has no requirements beside its peers; write them into the selectors")
		return nil
	}
	c.authentication(path, r.Authentication)
	ports, ok := c.ciliumRulePorts(path, name, peers, r.ToPorts, len(r.ICMPs))
	if !ok {
		return nil
	}
	var all []v1alpha1.EgressRule
	for _, p := range ports {
		all = append(all, v1alpha1.EgressRule{Name: p.name, To: slices.Clone(peers.all), Ports: p.ports, L7: p.l7})
	}
	return all
}

func (c *converter) authentication(path string, a *ciliumAuthentication) {
	if a != nil && a.Mode != "" && a.Mode != "disabled" {
		c.add(Wider, path+".authentication", "not converted: an L7Policy asks for no mutual authentication")
	}
}

// ciliumRulePorts gives what a rule allows on its ports, and false when it allows nothing.
func (c *converter) ciliumRulePorts(path, name string, peers *ciliumPeers, toPorts []ciliumPorts, icmps int) ([]rulePorts, bool) {
	if icmps > 0 {
		c.add(Stricter, path+".icmps", "left out: an L7Policy has no rules for ICMP; with scope AllPorts it denies what no rule without ports allows")
		return nil, false
	}
	if !peers.given && len(toPorts) == 0 || peers.given && len(peers.all) == 0 && !peers.everybody {
		return nil, false // a rule without anything allows nothing; so does one whose peers are none, or all left out
	}
	if peers.everybody {
		peers.all = nil
	}
	if len(toPorts) == 0 {
		return []rulePorts{{name: name}}, true
	}
	var all []rulePorts
	for i := range toPorts {
		if p, ok := c.ciliumPorts(fmt.Sprintf("%s.toPorts[%d]", path, i), &toPorts[i]); ok {
			p.name = name
			if len(toPorts) > 1 {
				p.name = fmt.Sprintf("%s-%d", name, i+1)
			}
			all = append(all, p)
		}
	}
	return all, len(all) > 0
}
