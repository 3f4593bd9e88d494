package manifests

import (
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/manifests/spelling"
)

func (c *policyChecker) checkMatch(path *field.Path, match *v1alpha1.L7Match) {
	var set []string
	if match.HTTP != nil {
		set = append(set, "http")
		c.checkHTTP(path.Child("http"), match.HTTP)
	}
	if match.GRPC != nil {
		set = append(set, "grpc")
		c.checkGRPC(path.Child("grpc"), match.GRPC)
	}
	if match.TLS != nil {
		set = append(set, "tls")
		c.checkHosts(path.Child("tls", "serverNames"), match.TLS.ServerNames, "server name")
	}
	if match.DNS != nil {
		set = append(set, "dns")
		c.checkHosts(path.Child("dns", "names"), match.DNS.Names, "name")
	}
	if match.Protocol != "" {
		set = append(set, "protocol")
		c.checkAppProtocol(path.Child("protocol"), match.Protocol)
	}
	c.oneOf(path, set, []string{"http", "grpc", "tls", "dns", "protocol"}, "leave l7 out to allow everything")
}

func (c *policyChecker) checkAppProtocol(path *field.Path, name string) {
	known := v1alpha1.AppProtocols()
	if slices.Contains(known, name) {
		return
	}
	if candidate := spelling.Nearest(name, known); candidate != "" {
		c.add(path, name, "is no protocol that the engine identifies; did you mean %s?", candidate)
		return
	}
	c.add(path, name, "is no protocol that the engine identifies; write one of %s", strings.Join(known, ", "))
}

func (c *policyChecker) checkHTTP(path *field.Path, match *v1alpha1.HTTPMatch) {
	onlyHTTP2 := slices.Equal(match.Versions, []v1alpha1.HTTPVersion{v1alpha1.HTTPVersion2})
	for i, method := range match.Methods {
		c.checkMethod(path.Child("methods").Index(i), method, onlyHTTP2)
	}
	if match.Path != nil {
		c.checkPath(path.Child("path"), match.Path)
	}
	c.checkHosts(path.Child("hosts"), match.Hosts, "host")
	for i := range match.Headers {
		c.checkHeader(path.Child("headers").Index(i), &match.Headers[i])
	}
}

// token is RFC 9110's: what a method or a header's name may consist of.
var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

func (c *policyChecker) checkMethod(path *field.Path, method string, onlyHTTP2 bool) {
	upper := strings.ToUpper(method)
	switch {
	case method == "" || method == "*":
		c.add(path, method, "is no method; to allow every method, leave methods out")
	case !token.MatchString(method):
		c.add(path, method, "is no method; write one without spaces and separators, such as GET, each as a list item of its own")
	case method != upper && slices.Contains(l7.HTTP1Methods(), upper):
		c.add(path, method, "is in lower case, but methods are case-sensitive and no client sends it so; write %s", upper)
	case upper == "CONNECT":
		c.add(path, method, "is never allowed, since nothing in its tunnel could be judged; remove it")
	case !onlyHTTP2 && !slices.Contains(l7.HTTP1Methods(), method):
		c.add(path, method, `is none that the engine recognises HTTP/1 by, so that only HTTP/2 could carry it; if that is meant, move it to an entry with versions: ["2"], and remove it here`)
	}
}

func (c *policyChecker) checkPath(path *field.Path, match *v1alpha1.PathMatch) {
	var set []string
	if match.Exact != nil {
		set = append(set, "exact")
		c.checkPathText(path.Child("exact"), *match.Exact, *match.Exact)
	}
	if match.Prefix != nil {
		set = append(set, "prefix")
		// What follows the last slash may be the beginning of a longer segment.
		c.checkPathText(path.Child("prefix"), *match.Prefix, (*match.Prefix)[:strings.LastIndexByte(*match.Prefix, '/')+1])
	}
	if match.Regex != nil {
		set = append(set, "regex")
		c.checkPathRegex(path.Child("regex"), *match.Regex)
	}
	c.oneOf(path, set, []string{"exact", "prefix", "regex"}, "leave path out to allow every path")
}

// checkPathText judges a path or its prefix; segments is the part of it that consists of whole segments.
func (c *policyChecker) checkPathText(path *field.Path, text, segments string) {
	if c.checkPlainText(path, text) {
		return
	}
	switch {
	case !strings.HasPrefix(text, "/"):
		c.add(path, text, "does not begin with '/', as every path does; write %s", quoted("/"+text))
	case strings.ContainsAny(text, "?#"):
		before := text[:strings.IndexAny(text, "?#")]
		c.add(path, text, "has a query or a fragment, but only the path is matched; write %s", quoted(before))
	case strings.Contains(text, "%"):
		remedy := "remove the percent sign"
		if decoded, err := url.PathUnescape(text); err == nil && !strings.Contains(decoded, "%") {
			remedy = "write " + quoted(decoded)
		}
		c.add(path, text, "has a percent sign, but paths are matched with their encoding decoded; %s", remedy)
	case strings.Contains(text, `\`):
		c.add(path, text, "has a backslash, and no path with one is ever matched; write '/', or remove it")
	case hasDotSegment(segments):
		c.add(path, text, "has a '.' or '..' segment, and no path with one is ever matched; write the path without")
	}
}

func hasDotSegment(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment, _, _ = strings.Cut(segment, ";"); segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

func (c *policyChecker) checkPathRegex(path *field.Path, text string) {
	if c.checkPlainText(path, text) {
		return
	}
	literal, ok := c.checkRegex(path, text)
	if ok && literal != "" && literal[0] != '/' {
		c.add(path, text, "matches no path, since every path begins with '/'; begin the expression with '/'")
	}
}

// checkPlainText reports control characters, and whether it found any: they never occur in what is matched, and could end a
// rule's line.
func (c *policyChecker) checkPlainText(path *field.Path, text string) bool {
	i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
	if i < 0 {
		return false
	}
	c.add(path, text, "has the control character %#02x at position %d; remove it", text[i], i)
	return true
}

func (c *policyChecker) checkHeader(path *field.Path, header *v1alpha1.HeaderMatch) {
	c.checkHeaderName(path.Child("name"), header.Name)
	var set []string
	if header.Exact != nil {
		set = append(set, "exact")
		at := path.Child("exact")
		if !c.checkPlainText(at, *header.Exact) && strings.TrimSpace(*header.Exact) != *header.Exact {
			c.add(at, *header.Exact, "has spaces around it, which are no part of a header's value; remove them")
		}
	}
	if header.Regex != nil {
		set = append(set, "regex")
		if at := path.Child("regex"); !c.checkPlainText(at, *header.Regex) {
			c.checkRegex(at, *header.Regex)
		}
	}
	if header.Present != nil {
		set = append(set, "present")
		if !*header.Present {
			c.add(path.Child("present"), false, "can only be true, since that a header is absent cannot be asked for; leave the header out")
		}
	}
	c.oneOf(path, set, []string{"exact", "regex", "present"}, "leave the header out")
}

func (c *policyChecker) checkHeaderName(path *field.Path, name string) {
	switch trimmed := strings.TrimSuffix(strings.TrimSpace(name), ":"); {
	case textproto.CanonicalMIMEHeaderKey(name) == "Host", name == ":authority":
		c.add(path, name, "is matched by hosts, in both versions of HTTP; use http.hosts instead")
	case token.MatchString(name):
	case token.MatchString(trimmed):
		c.add(path, name, "is no header's name; write it without colon and spaces: %s", quoted(trimmed))
	default:
		c.add(path, name, "is no header's name; write one of letters, digits and '-', such as X-Token")
	}
}

var (
	grpcService = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)
	grpcMethod  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

func (c *policyChecker) checkGRPC(path *field.Path, match *v1alpha1.GRPCMatch) {
	if match.Service != "" && !grpcService.MatchString(match.Service) {
		c.add(path.Child("service"), match.Service, "is no gRPC service; write its package and name, as in its .proto file: shop.Cart")
	}
	for i, method := range match.Methods {
		if !grpcMethod.MatchString(method) {
			c.add(path.Child("methods").Index(i), method, "is no gRPC method; write its name alone, as in its .proto file: Add")
		}
	}
}
