package suggesting

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// Limits of the API.
const (
	mostRules   = 64
	mostPeers   = 64
	mostEntries = 64
	mostMethods = 16
	mostNames   = 64
)

// matches joins atoms into the fewest entries that allow exactly them.
func matches(atoms []atom) []v1alpha1.L7Match {
	type at struct {
		path          string
		prefix, regex bool
	}
	type hosted struct {
		at
		host, second string
	}
	methods := map[hosted][]string{}
	var tls, dns, protocols []string
	anyTLS := false
	for _, a := range atoms {
		switch {
		case a.tls == noServerName:
			anyTLS = true
		case a.tls != "":
			tls = append(tls, a.tls)
		case a.dns != "":
			dns = append(dns, a.dns)
		case a.protocol != "":
			protocols = append(protocols, a.protocol)
		case a.method != "":
			k := hosted{at{a.path, a.prefix, a.regex}, a.host, a.second}
			methods[k] = append(methods[k], a.method)
		}
	}
	// Hosts of which the same is asked share an entry. One for any host stands alone.
	type asked struct {
		at
		methods string
		any     bool
	}
	hosts := map[asked][]string{}
	for k, list := range methods {
		slices.Sort(list)
		key := asked{k.at, strings.Join(slices.Compact(list), " "), k.host == ""}
		for _, h := range []string{k.host, k.second} {
			if h != "" {
				hosts[key] = append(hosts[key], h)
			}
		}
		if k.host == "" {
			hosts[key] = nil
		}
	}
	var all []v1alpha1.L7Match
	for _, key := range slices.SortedFunc(maps.Keys(hosts), func(a, b asked) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.methods, b.methods), cmp.Compare(len(hosts[a]), len(hosts[b])),
			cmp.Compare(number(a.prefix), number(b.prefix)), cmp.Compare(number(a.regex), number(b.regex)))
	}) {
		for methods := range slices.Chunk(strings.Fields(key.methods), mostMethods) {
			for names := range chunks(hosts[key], mostNames) {
				h := &v1alpha1.HTTPMatch{Methods: slices.Clone(methods), Hosts: names, Path: &v1alpha1.PathMatch{}}
				path := key.path
				switch {
				case key.prefix:
					h.Path.Prefix = &path
				case key.regex:
					h.Path.Regex = &path
				default:
					h.Path.Exact = &path
				}
				all = append(all, v1alpha1.L7Match{HTTP: h})
			}
		}
	}
	if anyTLS {
		all, tls = append(all, v1alpha1.L7Match{TLS: &v1alpha1.TLSMatch{}}), nil
	}
	if len(tls) > 0 {
		for names := range chunks(tls, mostNames) {
			all = append(all, v1alpha1.L7Match{TLS: &v1alpha1.TLSMatch{ServerNames: names}})
		}
	}
	if len(dns) > 0 {
		for names := range chunks(dns, mostNames) {
			all = append(all, v1alpha1.L7Match{DNS: &v1alpha1.DNSMatch{Names: names}})
		}
	}
	slices.Sort(protocols)
	for _, p := range slices.Compact(protocols) {
		all = append(all, v1alpha1.L7Match{Protocol: p})
	}
	return all
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// chunks gives sorted parts of a list, or nil once for an empty list.
func chunks(list []string, most int) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		if len(list) == 0 {
			yield(nil)
			return
		}
		list = slices.Compact(slices.Sorted(slices.Values(list)))
		for part := range slices.Chunk(list, most) {
			if !yield(slices.Clone(part)) {
				return
			}
		}
	}
}

// entryOf is a match as the evaluator has it. It knows what matches makes, and no more.
func entryOf(m *v1alpha1.L7Match) l7.Entry {
	switch {
	case m.HTTP != nil:
		h := &l7.HTTP{Methods: m.HTTP.Methods, Hosts: m.HTTP.Hosts, Path: &l7.StringMatch{}}
		switch p := m.HTTP.Path; {
		case p.Exact != nil:
			h.Path.Exact = *p.Exact
		case p.Prefix != nil:
			h.Path.Prefix = *p.Prefix
		case p.Regex != nil:
			h.Path.Regex = *p.Regex
		}
		return l7.Entry{HTTP: h}
	case m.TLS != nil:
		return l7.Entry{TLS: &l7.TLS{ServerNames: m.TLS.ServerNames}}
	case m.DNS != nil:
		return l7.Entry{DNS: &l7.DNS{Names: m.DNS.Names}}
	}
	return l7.Entry{Protocol: m.Protocol}
}
