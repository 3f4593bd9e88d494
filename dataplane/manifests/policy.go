package manifests

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// ValidateL7Policy returns everything that is wrong with a policy's spec, each with a remedy: what the rules of its
// CustomResourceDefinition refuse too, in better words and at the precise field, and what a schema cannot say (regular
// expressions, CIDRs, host names, which protocol runs over which). Limits of length and number, and enumerations, are left to
// the schema. Its time is bounded by the policy's size, whatever the policy says. Nil means that the policy can be compiled.
func ValidateL7Policy(policy *v1alpha1.L7Policy) field.ErrorList {
	c := &policyChecker{names: map[string]string{}}
	spec := field.NewPath("spec")
	c.checkSelector(spec.Child("podSelector"), &policy.Spec.PodSelector)
	c.checkDirections(spec, &policy.Spec)
	for i := range policy.Spec.Ingress {
		rule, path := &policy.Spec.Ingress[i], spec.Child("ingress").Index(i)
		c.checkRuleName(path, rule.Name)
		for j := range rule.From {
			c.checkPeer(path.Child("from").Index(j), &rule.From[j])
		}
		c.checkPorts(path.Child("ports"), rule.Ports)
		c.checkL7(path, rule.L7, rule.Ports)
	}
	for i := range policy.Spec.Egress {
		rule, path := &policy.Spec.Egress[i], spec.Child("egress").Index(i)
		c.checkRuleName(path, rule.Name)
		for j := range rule.To {
			c.checkEgressPeer(path.Child("to").Index(j), &rule.To[j])
		}
		c.checkPorts(path.Child("ports"), rule.Ports)
		c.checkL7(path, rule.L7, rule.Ports)
	}
	return c.errs
}

// policyChecker collects what is wrong with one policy.
type policyChecker struct {
	errs  field.ErrorList
	names map[string]string // of rules, to where each was first used
}

func (c *policyChecker) add(path *field.Path, value any, format string, args ...any) {
	c.errs = append(c.errs, invalid(path, value, format, args...))
}

// checkDirections refuses a policy that governs nothing.
func (c *policyChecker) checkDirections(path *field.Path, spec *v1alpha1.L7PolicySpec) {
	if spec.Ingress == nil && spec.Egress == nil {
		c.errs = append(c.errs, field.Required(path, "the policy governs nothing; add rules to ingress or egress, or, to deny a whole direction, set scope: AllPorts and an empty list, ingress: [] or egress: []"))
		return
	}
	if spec.Scope == v1alpha1.ScopeAllPorts {
		return
	}
	const why = "has no rules and so governs nothing with scope NamedPorts; leave it out, or set scope: AllPorts to deny the whole direction"
	if spec.Ingress != nil && len(spec.Ingress) == 0 {
		c.add(path.Child("ingress"), nil, why)
	}
	if spec.Egress != nil && len(spec.Egress) == 0 {
		c.add(path.Child("egress"), nil, why)
	}
}

func (c *policyChecker) checkRuleName(rule *field.Path, name string) {
	if name == "" {
		return
	}
	path := rule.Child("name")
	if len(validation.IsDNS1123Label(name)) > 0 {
		c.add(path, name, "must be at most 63 lower-case letters, digits and '-', and begin and end with a letter or digit; for example %s", exampleName(name))
	}
	if first, ok := c.names[name]; ok {
		c.add(path, name, "is also the name of %s, but events and metrics tell rules apart by name; rename one of them", first)
		return
	}
	c.names[name] = rule.String()
}

// exampleName makes of a name one that is allowed.
func exampleName(name string) string {
	example := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '-'
		}
	}, name[:min(len(name), validation.DNS1123LabelMaxLength)])
	if example = strings.Trim(example, "-"); example == "" {
		return "public-pages"
	}
	return example
}

func (c *policyChecker) checkPorts(path *field.Path, ports []v1alpha1.PolicyPort) {
	for i := range ports {
		c.checkPort(path.Index(i), &ports[i])
	}
}

func (c *policyChecker) checkPort(path *field.Path, port *v1alpha1.PolicyPort) {
	numeric := port.Port != nil && port.Port.StrVal == ""
	c.checkPortRef(path.Child("port"), port.Port, false)
	if port.EndPort == nil {
		return
	}
	at, end := path.Child("endPort"), *port.EndPort
	switch {
	case end < 1 || end > 65535:
		c.add(at, end, "is not a port's number; write one from 1 to 65535, or leave endPort out for a single port")
	case port.Port == nil:
		c.add(at, end, "has no port to begin at; set port to the first of the range, such as port: 1")
	case !numeric:
		c.add(at, end, "makes a range of the named port %s, but only numbers have ranges; set port to a number, or leave endPort out", bare(port.Port.StrVal))
	case end < port.Port.IntVal:
		c.add(at, end, "is below port %d; swap them, or leave endPort out for a single port", port.Port.IntVal)
	}
}

// checkPortRef judges a port's number or name; those of Services may be longer than those of Pods.
func (c *policyChecker) checkPortRef(path *field.Path, port *v1alpha1.PortRef, ofService bool) {
	switch {
	case port == nil:
	case port.Type == 0:
		if port.IntVal < 1 || port.IntVal > 65535 {
			c.add(path, port.IntVal, "is not a port's number; write one from 1 to 65535, or leave port out for every port")
		}
	case port.StrVal != "" && strings.Trim(port.StrVal, "0123456789") == "":
		c.add(path, port.StrVal, "is a name of digits only; write the number without quotes")
	case ofService && len(validation.IsDNS1123Label(port.StrVal)) > 0:
		c.add(path, port.StrVal, "is not the name of a Service's port; write its number, or its name: at most 63 lower-case letters, digits and '-'")
	case !ofService && len(validation.IsValidPortName(port.StrVal)) > 0:
		c.add(path, port.StrVal, "is not a port's name; write its number, or its name: at most 15 lower-case letters, digits and '-', at least one of them a letter")
	}
}

// checkL7 judges a rule's l7 entries, and whether they fit its ports.
func (c *policyChecker) checkL7(rule *field.Path, entries []v1alpha1.L7Match, ports []v1alpha1.PolicyPort) {
	path := rule.Child("l7")
	before := len(c.errs)
	for i := range entries {
		c.checkMatch(path.Index(i), &entries[i])
	}
	if len(entries) == 0 || len(ports) == 0 {
		return
	}
	onPorts := map[v1alpha1.Protocol]bool{}
	for i, port := range ports {
		transport := transportOf(port)
		onPorts[transport] = true
		if transport == v1alpha1.ProtocolSCTP {
			c.add(rule.Child("ports").Index(i).Child("protocol"), string(transport), "cannot be inspected; move this port to a rule without l7")
		}
	}
	for transport := range onPorts {
		if transport != v1alpha1.ProtocolTCP && transport != v1alpha1.ProtocolUDP {
			return // told above, or by the schema
		}
	}
	runs := map[v1alpha1.Protocol]bool{}
	for i := range entries {
		name, transports := transportsOf(&entries[i])
		usable := len(transports) == 0 // told above
		for _, t := range transports {
			runs[t], usable = true, usable || onPorts[t]
		}
		if !usable {
			c.add(path.Index(i).Child(name), nil, "runs over %s, but none of the rule's ports is %[1]s; set protocol: %[1]s on one of them, or move this entry to a rule of its own", transports[0])
		}
	}
	if len(c.errs) == before {
		c.checkUnusedPorts(rule, ports, runs)
	}
}

// checkUnusedPorts refuses ports over which none of the rule's l7 entries runs: everything would be denied there.
func (c *policyChecker) checkUnusedPorts(rule *field.Path, ports []v1alpha1.PolicyPort, runs map[v1alpha1.Protocol]bool) {
	for i, port := range ports {
		if transport := transportOf(port); !runs[transport] {
			c.add(rule.Child("ports").Index(i).Child("protocol"), string(transport),
				"nothing in the rule's l7 runs over %s, so that everything on this port would be denied; change the protocol, or move the port to a rule of its own", transport)
		}
	}
}

func transportOf(port v1alpha1.PolicyPort) v1alpha1.Protocol {
	if port.Protocol == "" {
		return v1alpha1.ProtocolTCP
	}
	return port.Protocol
}

// transportsOf returns the field that an l7 entry sets and what that runs over; nothing for an entry that is wrong.
func transportsOf(match *v1alpha1.L7Match) (name string, transports []v1alpha1.Protocol) {
	tcp := []v1alpha1.Protocol{v1alpha1.ProtocolTCP}
	switch {
	case match.HTTP != nil:
		return "http", tcp
	case match.GRPC != nil:
		return "grpc", tcp
	case match.TLS != nil:
		return "tls", tcp
	case match.DNS != nil:
		return "dns", []v1alpha1.Protocol{v1alpha1.ProtocolUDP, v1alpha1.ProtocolTCP}
	default:
		return "protocol", v1alpha1.AppProtocolTransports(match.Protocol)
	}
}

// oneOf reports a choice between fields of which not exactly one is set; otherwise is the remedy where none is wanted.
func (c *policyChecker) oneOf(path *field.Path, set, all []string, otherwise string) {
	switch len(set) {
	case 0:
		c.errs = append(c.errs, field.Required(path, fmt.Sprintf("has none of %s; set one of them, or %s", list(all), otherwise)))
	case 1:
	default:
		c.add(path, nil, "has %s, but can have only one of them; keep one, and give the others entries of their own", list(set))
	}
}

func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
