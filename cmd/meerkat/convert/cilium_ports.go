package convert

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// rulePorts is what a rule allows on some ports.
type rulePorts struct {
	name  string
	ports []v1alpha1.PolicyPort
	l7    []v1alpha1.L7Match
}

// ciliumPorts converts one entry of toPorts; false when it is left out.
func (c *converter) ciliumPorts(path string, p *ciliumPorts) (rulePorts, bool) {
	var r rulePorts
	protocols := []v1alpha1.Protocol{v1alpha1.ProtocolTCP, v1alpha1.ProtocolUDP, v1alpha1.ProtocolSCTP}
	switch {
	case p.Listener != nil:
		c.add(Stricter, path+".listener", "the rule is left out: what that listener allows is not known")
		return r, false
	case p.Rules != nil && (p.TerminatingTLS != nil || p.OriginatingTLS != nil):
		c.add(Stricter, path+".terminatingTLS", "the rule is left out: an L7Policy does not look into TLS; judge the server's name instead, with "+
			"l7: [{tls: {serverNames: […]}}]")
		return r, false
	case p.Rules != nil && p.Rules.DNS == nil:
		protocols = protocols[:1]
	case p.Rules != nil:
		protocols = protocols[:2]
	}
	if p.Rules != nil {
		var ok bool
		if r.l7, ok = c.ciliumL7(path+".rules", p.Rules); !ok {
			return r, false
		}
	}
	if len(p.ServerNames) > 0 {
		names := c.underNames(path+".serverNames", p.ServerNames)
		if len(names) == 0 {
			return r, false
		}
		r.l7, protocols = []v1alpha1.L7Match{{TLS: &v1alpha1.TLSMatch{ServerNames: names}}}, protocols[:1]
	}
	for i := range p.Ports {
		r.ports = append(r.ports, c.ciliumPort(fmt.Sprintf("%s.ports[%d]", path, i), &p.Ports[i], protocols)...)
	}
	return r, len(p.Ports) == 0 || len(r.ports) > 0
}

// ciliumPort converts a port: one for each protocol that is meant.
func (c *converter) ciliumPort(path string, p *ciliumPort, any []v1alpha1.Protocol) []v1alpha1.PolicyPort {
	protocols := any
	switch protocol := v1alpha1.Protocol(strings.ToUpper(p.Protocol)); protocol {
	case "", "ANY":
	case v1alpha1.ProtocolTCP, v1alpha1.ProtocolUDP, v1alpha1.ProtocolSCTP:
		protocols = []v1alpha1.Protocol{protocol}
	default:
		c.add(Stricter, path, "left out: an L7Policy has no rules for the protocol %s", p.Protocol)
		return nil
	}
	var all []v1alpha1.PolicyPort
	for _, protocol := range protocols {
		port := v1alpha1.PolicyPort{Protocol: protocol}
		text := p.Port.String()
		if number, err := strconv.ParseUint(text, 0, 16); err != nil {
			port.Port = new(intstr.FromString(strings.ToLower(text)))
		} else if number != 0 {
			port.Port = new(intstr.FromInt32(int32(number)))
			if p.EndPort > int32(number) {
				port.EndPort = new(p.EndPort)
			}
		}
		all = append(all, port)
	}
	return all
}

// ciliumL7 converts rules for requests; false when none of them can be said, since then the port is not to be open to all.
func (c *converter) ciliumL7(path string, r *ciliumL7) (all []v1alpha1.L7Match, ok bool) {
	switch {
	case r.Kafka != nil || r.L7Proto != "" || r.L7 != nil:
		c.add(Stricter, path, "the rule is left out: an L7Policy has no rules for requests of Kafka or of proxy libraries; by name it can allow a whole protocol")
		return nil, false
	case r.HTTP != nil:
		if len(*r.HTTP) == 0 {
			return []v1alpha1.L7Match{{HTTP: &v1alpha1.HTTPMatch{}}}, true
		}
		for i := range *r.HTTP {
			all = append(all, c.ciliumHTTP(fmt.Sprintf("%s.http[%d]", path, i), &(*r.HTTP)[i])...)
		}
	case r.DNS != nil:
		if len(*r.DNS) == 0 {
			return []v1alpha1.L7Match{{DNS: &v1alpha1.DNSMatch{}}}, true
		}
		for i, n := range *r.DNS {
			at := fmt.Sprintf("%s.dns[%d]", path, i)
			if n.MatchPattern == "*" {
				all = append(all, v1alpha1.L7Match{DNS: &v1alpha1.DNSMatch{}})
				continue
			}
			if names := c.underNames(at, []string{n.MatchName + n.MatchPattern}); len(names) > 0 {
				all = append(all, v1alpha1.L7Match{DNS: &v1alpha1.DNSMatch{Names: names}})
			}
		}
	default:
		return nil, true
	}
	return all, len(all) > 0
}

// underNames converts names: whole ones, *.suffix (which in Cilium is one further label) and **.suffix.
func (c *converter) underNames(path string, names []string) (all []string) {
	for _, name := range names {
		text := strings.ToLower(strings.TrimSuffix(name, "."))
		if under, ok := strings.CutPrefix(text, "**."); ok && !strings.Contains(under, "*") {
			all = append(all, "*."+under)
			continue
		}
		under, ok := strings.CutPrefix(text, "*.")
		switch {
		case !strings.Contains(text, "*"):
			all = append(all, text)
		case !ok || strings.Contains(under, "*"):
			c.add(Stricter, path, "%q is left out: an L7Policy's names are whole, or *.suffix", name)
		case c.wider(path, "%q is one further label in Cilium, and any number of them in an L7Policy", name):
			all = append(all, text)
		}
	}
	return all
}

// ciliumHTTP converts a rule for requests: a match for each path that its expression stands for.
func (c *converter) ciliumHTTP(path string, h *ciliumHTTP) []v1alpha1.L7Match {
	var m v1alpha1.HTTPMatch
	if h.Method != "" && h.Method != ".*" {
		words, ok := literals(h.Method)
		if !ok {
			c.add(Stricter, path+".method", "left out: an L7Policy's methods are whole, and %q is an expression for many", h.Method)
			return nil
		}
		if m.Methods, ok = c.methods(path+".method", words); !ok {
			return nil
		}
	}
	var ok bool
	if m.Hosts, ok = c.regexHosts(path+".host", h.Host); !ok {
		return nil
	}
	for i, line := range h.Headers {
		name, value, _ := strings.Cut(line, ":")
		if !c.ciliumHeader(fmt.Sprintf("%s.headers[%d]", path, i), &m, strings.TrimSpace(name), strings.TrimSpace(value)) {
			return nil
		}
	}
	for i, header := range h.HeaderMatches {
		at := fmt.Sprintf("%s.headerMatches[%d]", path, i)
		switch {
		case header.Mismatch == "LOG":
			c.add(Aside, at, "left out: it only has the proxy write a log")
		case header.Mismatch != "":
			c.add(Stricter, path, "left out: an L7Policy does not change requests, as mismatch: %s does", header.Mismatch)
			return nil
		case header.Secret != nil:
			c.add(Stricter, path, "left out: an L7Policy takes no values from Secrets, since whoever may read policies would see them")
			return nil
		case !c.ciliumHeader(at, &m, header.Name, header.Value):
			return nil
		}
	}
	paths, ok := c.regexPath(path+".path", h.Path)
	if !ok {
		return nil
	}
	var all []v1alpha1.L7Match
	for _, p := range paths {
		one := *m.DeepCopy()
		one.Path = p
		all = append(all, v1alpha1.L7Match{HTTP: &one})
	}
	return all
}

func (c *converter) ciliumHeader(path string, m *v1alpha1.HTTPMatch, name, value string) bool {
	switch {
	case !isHost(name):
		m.Headers = append(m.Headers, headerOf(name, value))
	case value == "" || len(m.Hosts) > 0:
		c.add(Stricter, path, "the rule is left out: an L7Policy has the host in a field of its own, once")
		return false
	default:
		m.Hosts = []string{c.host(path, value)}
	}
	return true
}
