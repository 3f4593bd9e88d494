package l7

import (
	"regexp"
	"slices"
	"strings"
)

// Allows tells whether one of the entries allows the request. It is what the compiled rules are tested against.
func Allows(entries []Entry, r Request) bool {
	if never(r) != "" {
		return false
	}
	return slices.ContainsFunc(entries, func(e Entry) bool {
		_, why := e.obstacle(r)
		return why == ""
	})
}

// never says why no entry at all can allow r; "" when one could.
func never(r Request) string {
	switch {
	case r.Protocol == "":
		return "the protocol was not identified"
	case r.Protocol == ProtocolHTTP && r.Version != "1" && r.Version != "2":
		return "this version of HTTP is never allowed"
	case r.Protocol == ProtocolHTTP && r.Method == "CONNECT":
		return "CONNECT is never allowed: nothing in the tunnel would be judged"
	case r.Protocol == ProtocolHTTP && r.Version == "1" && !slices.Contains(HTTP1Methods(), r.Method):
		return "method " + clip(r.Method) + " is none that HTTP/1 is recognised by"
	}
	return ""
}

// obstacle says what keeps the entry from allowing r, "" when it allows it, and how many of its conditions r satisfied first.
func (e Entry) obstacle(r Request) (satisfied int, why string) {
	for _, condition := range e.conditions() {
		if why := condition(r); why != "" {
			return satisfied, why
		}
		satisfied++
	}
	return satisfied, ""
}

// A condition says why a request does not satisfy it; "" when it does.
type condition func(Request) string

func (e Entry) conditions() []condition {
	switch {
	case e.HTTP != nil:
		return []condition{isProtocol(ProtocolHTTP), e.HTTP.version, e.HTTP.host, e.HTTP.path, e.HTTP.method, e.HTTP.headers}
	case e.GRPC != nil:
		return []condition{isProtocol(ProtocolHTTP2), e.GRPC.call, e.GRPC.service, e.GRPC.method}
	case e.TLS != nil:
		return []condition{isProtocol(ProtocolTLS), e.TLS.serverName}
	case e.DNS != nil:
		return []condition{isProtocol(ProtocolDNS), e.DNS.name}
	default:
		return []condition{isProtocol(e.Protocol)}
	}
}

// isProtocol takes "http" for both versions of HTTP, "http1" and "http2" for one.
func isProtocol(name string) condition {
	return func(r Request) string {
		if r.Protocol == name || r.Protocol == ProtocolHTTP && name == ProtocolHTTP+r.Version {
			return ""
		}
		return "not " + name
	}
}

func (h HTTP) version(r Request) string {
	if len(h.Versions) > 0 && !slices.Contains(h.Versions, r.Version) {
		return "HTTP/" + r.Version + " is not HTTP/" + strings.Join(h.Versions, " or HTTP/")
	}
	return ""
}

func (h HTTP) host(r Request) string {
	if len(h.Hosts) == 0 {
		return ""
	}
	if r.Host == "" {
		return "no host"
	}
	hosts := []string{r.Host}
	if name, ok := authority(r.Target); ok {
		hosts = append(hosts, name) // servers disagree which of the two counts, so both must be allowed
	}
	for _, host := range hosts {
		if !matchesName(h.Hosts, hostName(host)) {
			return "host " + clip(host) + " is not " + oneOf(h.Hosts)
		}
	}
	return ""
}

func (h HTTP) path(r Request) string {
	if h.Path == nil {
		return ""
	}
	if problem := PathProblem(r.Target); problem != "" {
		return "path " + clip(r.Target) + " " + problem
	}
	if path := NormalizePath(r.Target); !h.Path.Matches(path) {
		return "path " + clip(path) + " " + h.Path.not()
	}
	return ""
}

func (h HTTP) method(r Request) string {
	if len(h.Methods) > 0 && !slices.Contains(h.Methods, r.Method) {
		return "method " + clip(r.Method) + " is not " + oneOf(h.Methods)
	}
	return ""
}

func (h HTTP) headers(r Request) string {
	for _, m := range h.Headers {
		if !m.Matches(r.Headers) {
			return m.not(r.Headers)
		}
	}
	return ""
}

// call tells whether r is a gRPC call at all: see "Requests" in gRPC's description of its protocol over HTTP/2.
func (g GRPC) call(r Request) string {
	contentType := HeaderMatch{Name: "content-type", Regex: `application/grpc([+;].*)?`}
	switch service, method := callOf(r.Target); {
	case r.Method != "POST":
		return "method " + clip(r.Method) + " is not POST"
	case service == "" || method == "":
		return "path " + clip(r.Target) + " is not /service/method"
	case !contentType.Matches(r.Headers):
		return "the content type is not application/grpc"
	}
	return ""
}

func (g GRPC) service(r Request) string {
	if service, _ := callOf(r.Target); g.Service != "" && service != g.Service {
		return "service " + clip(service) + " is not " + g.Service
	}
	return ""
}

func (g GRPC) method(r Request) string {
	if _, method := callOf(r.Target); len(g.Methods) > 0 && !slices.Contains(g.Methods, method) {
		return "method " + clip(method) + " is not " + oneOf(g.Methods)
	}
	return ""
}

// callOf splits a gRPC call's path, in which nothing is encoded.
func callOf(target string) (service, method string) {
	m := grpcPath.FindStringSubmatch(target)
	if m == nil {
		return "", ""
	}
	return m[1], m[2]
}

var grpcPath = regexp.MustCompile(`^/([A-Za-z0-9_.]+)/([A-Za-z0-9_]+)$`)

func (t TLS) serverName(r Request) string {
	switch {
	case len(t.ServerNames) == 0:
	case r.ServerName == "":
		return "no server name (SNI)"
	case !matchesName(t.ServerNames, strings.ToLower(r.ServerName)):
		return "server name " + clip(r.ServerName) + " is not " + oneOf(t.ServerNames)
	}
	return ""
}

func (d DNS) name(r Request) string {
	if len(d.Names) > 0 && !matchesName(d.Names, strings.ToLower(r.Name)) {
		return "name " + clip(r.Name) + " is not " + oneOf(d.Names)
	}
	return ""
}
