package plan

import (
	"cmp"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// newEntries converts a rule's l7. A faulty entry is left out, and so allows nothing.
func newEntries(p *policy, r *rule, s *ruleSource) []entry {
	entries := make([]entry, 0, len(s.l7))
	for i := range s.l7 {
		field := fmt.Sprintf("%s.l7[%d]", s.field, i)
		before := len(p.faults)
		e := convert(p, field, &s.l7[i])
		if len(p.faults) > before {
			continue
		}
		e.Policy, e.Rule = p.label, r.label
		entries = append(entries, newEntry(e))
	}
	return entries
}

func convert(p *policy, field string, m *v1alpha1.L7Match) l7.Entry {
	e := l7.Entry{Protocol: m.Protocol}
	set := 0
	if m.Protocol != "" {
		set++
	}
	if m.HTTP != nil {
		set++
		e.HTTP = convertHTTP(p, field+".http", m.HTTP)
	}
	if m.GRPC != nil {
		set++
		e.GRPC = &l7.GRPC{Service: m.GRPC.Service, Methods: canonical(m.GRPC.Methods)}
	}
	if m.TLS != nil {
		set++
		e.TLS = &l7.TLS{ServerNames: hostNames(m.TLS.ServerNames)}
	}
	if m.DNS != nil {
		set++
		e.DNS = &l7.DNS{Names: hostNames(m.DNS.Names)}
	}
	if set != 1 {
		p.fault(field, "sets %d of http, grpc, tls, dns and protocol: set exactly one, and give each alternative a list item of its own", set)
	}
	return e
}

func convertHTTP(p *policy, field string, m *v1alpha1.HTTPMatch) *l7.HTTP {
	h := &l7.HTTP{
		Methods: canonical(m.Methods),
		Hosts:   hostNames(m.Hosts),
	}
	for _, v := range m.Versions {
		h.Versions = append(h.Versions, string(v))
	}
	h.Versions = canonical(h.Versions)
	if m.Path != nil {
		h.Path = convertPath(p, field+".path", m.Path)
	}
	for i := range m.Headers {
		h.Headers = append(h.Headers, convertHeader(p, fmt.Sprintf("%s.headers[%d]", field, i), &m.Headers[i]))
	}
	slices.SortFunc(h.Headers, func(a, b l7.HeaderMatch) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Exact, b.Exact), cmp.Compare(a.Regex, b.Regex))
	})
	h.Headers = slices.Compact(h.Headers)
	return h
}

func convertPath(p *policy, field string, m *v1alpha1.PathMatch) *l7.StringMatch {
	path := l7.StringMatch{Exact: valueOf(m.Exact), Prefix: valueOf(m.Prefix), Regex: valueOf(m.Regex)}
	set := 0
	for _, s := range []string{path.Exact, path.Prefix, path.Regex} {
		if s != "" {
			set++
		}
	}
	if set != 1 {
		p.fault(field, "sets %d of exact, prefix and regex: set exactly one, and not to an empty text; for every path, leave path out", set)
	}
	checkRegex(p, field+".regex", path.Regex)
	return &path
}

func convertHeader(p *policy, field string, m *v1alpha1.HeaderMatch) l7.HeaderMatch {
	h := l7.HeaderMatch{Name: m.Name, Exact: valueOf(m.Exact), Regex: valueOf(m.Regex), Present: isTrue(m.Present)}
	if m.Exact != nil && *m.Exact == "" {
		h.Regex = "(?:)" // the empty value, which Exact cannot say
	}
	set := 0
	for _, is := range []bool{m.Exact != nil, m.Regex != nil && *m.Regex != "", h.Present} {
		if is {
			set++
		}
	}
	if set != 1 || m.Name == "" {
		p.fault(field, "needs a name and exactly one of exact, regex and present: true")
	}
	checkRegex(p, field+".regex", h.Regex)
	return h
}

func checkRegex(p *policy, field, regex string) {
	if _, err := syntax.Parse(regex, syntax.Perl); err != nil {
		p.fault(field, "is not an RE2 expression: %v", err)
	}
}

// hostNames puts host names into lower case, without the dot of the root.
func hostNames(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, strings.ToLower(strings.TrimSuffix(n, ".")))
	}
	return canonical(out)
}

// canonical returns the list sorted and without duplicates.
func canonical(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}
