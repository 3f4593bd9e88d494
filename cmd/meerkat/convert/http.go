package convert

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

const (
	queriesPass = "an L7Policy compares paths without their query and with their percent-encoding decoded, so that such a path passes with " +
		"any query"
	portsPass = "an L7Policy compares hosts without their port and in lower case, so that such a host passes with any port"
)

// exactPath makes a match of a whole path or, with prefix, of its beginning. It gives nil, false when there is none.
func (c *converter) exactPath(path, text string, prefix bool) (*v1alpha1.PathMatch, bool) {
	decoded, err := url.PathUnescape(text)
	if err != nil || strings.ContainsAny(decoded, "%?#\\") || !strings.HasPrefix(decoded, "/") {
		c.add(Stricter, path, "left out: no L7Policy can match the path %q", text)
		return nil, false
	}
	if prefix {
		if decoded == "/" {
			return nil, true
		}
		return &v1alpha1.PathMatch{Prefix: &decoded}, true
	}
	c.once(Wider, path, queriesPass)
	return &v1alpha1.PathMatch{Exact: &decoded}, true
}

// regexPath makes the matches of an expression that matches a whole path: one, or none when every path is meant.
func (c *converter) regexPath(path, expression string) (matches []*v1alpha1.PathMatch, ok bool) {
	if expression == "" || expression == ".*" || expression == "/.*" {
		return []*v1alpha1.PathMatch{nil}, true
	}
	if text, ok := prefixed(expression); ok {
		m, ok := c.exactPath(path, text, true)
		return []*v1alpha1.PathMatch{m}, ok
	}
	if all, ok := literals(expression); ok {
		for _, text := range all {
			if m, ok := c.exactPath(path, text, false); ok {
				matches = append(matches, m)
			}
		}
		return matches, len(matches) > 0
	}
	if _, err := regexp.Compile(expression); err != nil || mayMatch(expression, '?') || mayMatch(expression, '%') || mayMatch(expression, '#') {
		c.add(Stricter, path, "left out: no L7Policy can match the path %q, since it compares paths without their query, decoded, and by RE2", expression)
		return nil, false
	}
	c.once(Wider, path, queriesPass)
	return []*v1alpha1.PathMatch{{Regex: &expression}}, true
}

// methods takes those that the engine knows.
func (c *converter) methods(path string, all []string) ([]string, bool) {
	var known []string
	for _, m := range all {
		if slices.Contains(l7.HTTP1Methods(), m) {
			known = append(known, m)
			continue
		}
		c.add(Stricter, path, "the method %q is left out: the engine does not know HTTP/1 by it", m)
	}
	return known, len(known) > 0
}

// host makes a host of a literal name. A port is taken off.
func (c *converter) host(path, name string) string {
	c.once(Wider, path, portsPass)
	if i := strings.LastIndexByte(name, ':'); i > 0 {
		name = name[:i]
	}
	return strings.ToLower(name)
}

// regexHosts makes hosts of an expression that matches a whole host.
func (c *converter) regexHosts(path, expression string) (hosts []string, ok bool) {
	if expression == "" || expression == ".*" {
		return nil, true
	}
	if all, ok := literals(expression); ok {
		for _, name := range all {
			hosts = append(hosts, c.host(path, name))
		}
		return hosts, true
	}
	under, exact := suffixed(expression)
	switch {
	case under == "":
		c.add(Stricter, path, "left out: an L7Policy's hosts are whole names or *.suffix, and %q is neither", expression)
		return nil, false
	case !exact && !c.wider(path, "%q becomes *.%s, which also matches names with further labels", expression, under):
		return nil, false
	}
	return []string{"*." + c.host(path, under)}, true
}

// headerOf makes a match of a header; an empty value stands for any.
func headerOf(name, value string) v1alpha1.HeaderMatch {
	if value == "" {
		present := true
		return v1alpha1.HeaderMatch{Name: name, Present: &present}
	}
	return v1alpha1.HeaderMatch{Name: name, Exact: &value}
}

// isHost tells whether a header is the host, which has a field of its own.
func isHost(name string) bool { return strings.EqualFold(name, "Host") || name == ":authority" }
