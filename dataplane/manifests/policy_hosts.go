package manifests

import (
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/net/idna"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Limits of RFC 1035.
const (
	maxDNSName  = 253
	maxDNSLabel = 63
)

// dnsLabel is what stands between dots: like a host name's, but with '_', which names of services have (_grpc._tcp.example).
var dnsLabel = regexp.MustCompile(`^[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?$`)

// checkHosts judges host names, exact or "*.suffix"; noun is what messages call them.
func (c *policyChecker) checkHosts(path *field.Path, names []string, noun string) {
	for i, name := range names {
		if why := hostFault(name, noun); why != "" {
			c.add(path.Index(i), name, "%s", why)
		}
	}
}

// hostFault tells what is wrong with a host name and what to write instead; empty when nothing is.
func hostFault(name, noun string) string {
	switch {
	case name == "":
		return "is empty; write a name, or leave the list out to allow every " + noun
	case name == "*":
		return "is a wildcard for everything; leave the list out to allow every " + noun
	case isHost(name):
		return ""
	case strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return "has spaces or control characters; remove them"
	}
	if better := betterHost(name); better != "" && isHost(better) {
		return "is not in the form that is matched (lower case, without scheme, port, path and last dot); write " + better
	}
	bareName := strings.TrimPrefix(name, "*.")
	switch {
	case strings.Contains(bareName, "*"):
		return "has a wildcard inside; '*' can only be the whole first label, as in *.example.com"
	case strings.Contains(bareName, ":"):
		return "is no " + noun + "; write a name such as shop.example, or an IPv4 address"
	case len(bareName) > maxDNSName:
		return "is longer than the 253 characters that a name can have; shorten it"
	}
	for label := range strings.SplitSeq(bareName, ".") {
		if len(label) > maxDNSLabel {
			return "has a label of more than 63 characters (" + quoted(label) + "); shorten it"
		}
	}
	return "is no " + noun + "; write lower-case letters, digits, '-' and '_' in labels that are separated by single dots, such as shop.example or *.shop.example"
}

// isHost tells whether a name is as it must be.
func isHost(name string) bool {
	name = strings.TrimPrefix(name, "*.")
	if len(name) > maxDNSName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) > maxDNSLabel || !dnsLabel.MatchString(label) {
			return false
		}
	}
	return true
}

// betterHost guesses what was meant: the host of a URL, a name without its port, in lower case, in Punycode.
func betterHost(name string) string {
	if _, rest, ok := strings.Cut(name, "://"); ok {
		name = rest
	}
	name, _, _ = strings.Cut(name, "/")
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return ""
	}
	if parsed, err := url.Parse("http://" + name); err == nil && parsed.Port() != "" {
		name = parsed.Hostname()
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	wildcard := ""
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		wildcard, name = "*.", rest
	}
	if ascii, err := idna.Lookup.ToASCII(name); err == nil {
		name = ascii
	}
	return wildcard + name
}
