package suggesting

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Peer is the other end of what was seen: Pods by their labels, a Service, or an address.
type Peer struct {
	// Namespace and Labels are of Pods.
	Namespace string
	Labels    map[string]string
	// Service is "namespace/name" of a Service whose endpoints are no Pods that are known; of egress only.
	Service string
	// Address is that of others.
	Address netip.Addr
	// Name is for people: a workload, a Pod, an address.
	Name string
}

// key tells peers apart.
func (p *Peer) key() string {
	if len(p.Labels) > 0 {
		words := []string{"pods", p.Namespace}
		for _, name := range slices.Sorted(maps.Keys(p.Labels)) {
			words = append(words, name+"="+p.Labels[name])
		}
		return strings.Join(words, "\x00")
	}
	return strings.Join([]string{"other", p.Service, p.Address.String()}, "\x00")
}

// stands tells whether what allows p allows other, too: it has all of the labels.
func (p *Peer) stands(other *Peer) bool {
	if len(p.Labels) == 0 {
		return p.key() == other.key()
	}
	if p.Namespace != other.Namespace || len(other.Labels) == 0 {
		return false
	}
	for name, value := range p.Labels {
		if have, ok := other.Labels[name]; !ok || have != value {
			return false
		}
	}
	return true
}

// port is a governed port.
type port struct {
	protocol plan.Protocol
	number   uint16
}

func (p port) String() string { return fmt.Sprintf("%d/%s", p.number, p.protocol) }

// seen is one request or connection of a peer, as often as there was one.
type seen struct {
	peer Peer
	port port
	atom atom
	// request is what the evaluator is asked.
	request     l7.Request
	count       int
	denied      int
	first, last time.Time
}

// atom is what cannot be divided. Exactly one of method, tls, dns, protocol and connection is set.
type atom struct {
	method, host string // host "" is any
	second       string // the other host of a request that names two
	path         string
	prefix       bool // path stands for all that begin so
	regex        bool // path is an expression, since it has characters that a literal path may not have
	tls          string
	dns          string
	protocol     string
	connection   bool
}

func (a *atom) key() string {
	return fmt.Sprintf("%q %q %q %q %t %t %q %q %q %t", a.path, a.method, a.host, a.second, a.prefix, a.regex, a.tls, a.dns, a.protocol, a.connection)
}

// noServerName is the tls of a handshake without a server name, and of one whose name no rule can hold.
const noServerName = "\x00"

var (
	hostPattern = regexp.MustCompile(`^([a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)(\.[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)*$`)
	pathPattern = regexp.MustCompile(`^/[^[:cntrl:]?#]*$`)
	noControl   = regexp.MustCompile(`^/[^[:cntrl:]]*$`)
	absolute    = regexp.MustCompile(`^(?i:https?)://([^/?#]*)`)
)

const longestPath, longestHost = 1024, 255

// atomsOf gives what an event tells of, with what the evaluator is to be asked of each; or a sentence why no rule can allow it.
func atomsOf(v *verdict.Event) (atoms []atom, requests []l7.Request, why string) {
	switch {
	case v.HTTP != nil:
		r := l7.Request{Protocol: l7.ProtocolHTTP, Version: v.HTTP.Version, Method: v.HTTP.Method, Target: v.HTTP.Path, Host: v.HTTP.Host}
		a, why := httpAtom(&r, v.Server.Address.Addr())
		return []atom{a}, []l7.Request{r}, why
	case v.TLS != nil:
		name := strings.ToLower(v.TLS.ServerName)
		a := atom{tls: noServerName}
		if hostPattern.MatchString(name) && len(name) <= longestHost {
			a.tls = name
		}
		return []atom{a}, []l7.Request{{Protocol: l7.ProtocolTLS, ServerName: name}}, ""
	case v.DNS != nil:
		for _, name := range v.DNS.Names {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			if !hostPattern.MatchString(name) || len(name) > longestHost {
				return nil, nil, "no rule can name it"
			}
			atoms = append(atoms, atom{dns: name})
			requests = append(requests, l7.Request{Protocol: l7.ProtocolDNS, Name: name})
		}
		if len(atoms) > 0 {
			return atoms, requests, ""
		}
	case slices.Contains([]string{"http", "http2", "tls", "dns"}, v.Application): // of which nothing more was told
	case slices.Contains(v1alpha1.AppProtocols(), v.Application) && v.Layer == 7:
		if slices.Contains(v1alpha1.AppProtocolTransports(v.Application), v1alpha1.Protocol(v.Protocol)) {
			return []atom{{protocol: v.Application}}, []l7.Request{{Protocol: v.Application}}, ""
		}
	}
	return []atom{{connection: true}}, []l7.Request{{}}, ""
}

func httpAtom(r *l7.Request, server netip.Addr) (a atom, why string) {
	if problem := l7.PathProblem(r.Target); problem != "" {
		return a, "its path " + problem + ", and only a rule for every path would allow it"
	}
	everything := []l7.Entry{{HTTP: &l7.HTTP{}}}
	if !l7.Allows(everything, *r) {
		return a, l7.Explain(everything, *r)[0].Why
	}
	a = atom{method: r.Method, path: l7.NormalizePath(r.Target)}
	switch {
	case len(a.path) > longestPath || !noControl.MatchString(a.path):
		return a, "its path is too long for a rule, or has a control character"
	case !pathPattern.MatchString(a.path):
		a.path, a.regex = regexp.QuoteMeta(a.path), true
		if len(a.path) > longestPath {
			return a, "its path is too long for a rule"
		}
	}
	hosts := []string{r.Host}
	if m := absolute.FindStringSubmatch(r.Target); m != nil {
		hosts = append(hosts, m[1])
	}
	for i, h := range hosts {
		hosts[i] = stableHost(h, server)
	}
	slices.Sort(hosts)
	if hosts[0] == "" { // a rule that names hosts would deny it, or not for long
		return a, ""
	}
	a.host = hosts[0]
	if last := hosts[len(hosts)-1]; last != a.host {
		a.second = last
	}
	return a, ""
}

// stableHost is a host that a rule may name; "" for none. A Pod's own address is another one tomorrow.
func stableHost(host string, server netip.Addr) string {
	name, tcp, _ := strings.Cut(strings.ToLower(strings.Trim(host, " \t")), ":")
	if strings.Trim(tcp, "0123456789") != "" || len(name) > longestHost || !hostPattern.MatchString(name) {
		return ""
	}
	if address, err := netip.ParseAddr(name); err == nil && address == server {
		return ""
	}
	return name
}

// text is the request for people.
func (s *seen) text() string {
	switch a := &s.atom; {
	case a.tls == noServerName:
		return "TLS without a server name"
	case a.tls != "":
		return "TLS " + a.tls
	case a.dns != "":
		return "DNS " + a.dns
	case a.protocol != "":
		return a.protocol
	case a.connection:
		return "a connection"
	}
	return strings.TrimSpace(s.request.Method + " " + s.request.Host + s.request.Target)
}
