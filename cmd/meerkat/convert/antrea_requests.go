package convert

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// antreaL7 converts rules for requests; false when none is left, since then the ports are not to be open to all.
func (c *converter) antreaL7(path string, rules []antreaL7) (all []v1alpha1.L7Match, ok bool) {
	for i, r := range rules {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case r.HTTP != nil:
			if m, ok := c.antreaHTTP(at+".http", r.HTTP); ok {
				all = append(all, v1alpha1.L7Match{HTTP: m})
			}
		case r.TLS != nil && r.TLS.SNI == "":
			all = append(all, v1alpha1.L7Match{TLS: &v1alpha1.TLSMatch{}})
		case r.TLS != nil:
			if name, ok := c.wildcard(at+".tls.sni", r.TLS.SNI); ok {
				all = append(all, v1alpha1.L7Match{TLS: &v1alpha1.TLSMatch{ServerNames: []string{name}}})
			}
		default:
			c.add(Stricter, at, "left out: it names no protocol")
		}
	}
	return all, len(all) > 0
}

func (c *converter) antreaHTTP(path string, h *antreaHTTP) (*v1alpha1.HTTPMatch, bool) {
	var m v1alpha1.HTTPMatch
	var ok bool
	if h.Method != "" {
		if m.Methods, ok = c.methods(path+".method", []string{h.Method}); !ok {
			return nil, false
		}
	}
	if h.Host != "" && h.Host != "*" {
		host, ok := c.wildcard(path+".host", strings.ToLower(h.Host))
		if !ok {
			return nil, false
		}
		m.Hosts = []string{host}
	}
	switch beginning, star := strings.CutSuffix(h.Path, "*"); {
	case h.Path == "" || h.Path == "*":
	case !strings.Contains(beginning, "*"):
		if m.Path, ok = c.exactPath(path+".path", beginning, star); !ok {
			return nil, false
		}
	default:
		expression := strings.ReplaceAll(regexp.QuoteMeta(h.Path), `\*`, ".*")
		all, ok := c.regexPath(path+".path", expression)
		if !ok {
			return nil, false
		}
		m.Path = all[0]
	}
	return &m, true
}

// wildcard converts a name that may begin with "*.", below which any name is meant.
func (c *converter) wildcard(path, name string) (string, bool) {
	if under := strings.TrimPrefix(name, "*."); !strings.Contains(under, "*") {
		return name, true
	}
	c.add(Stricter, path, "%q is left out: an L7Policy's names are whole, or *.suffix", name)
	return "", false
}
