package observing

import (
	"fmt"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Filter chooses events: those that match one value of each list that is not empty.
type Filter struct {
	// Namespaces and Pods ("namespace/name", or a name in any namespace) are of either end, Services of what was asked for.
	Namespaces, Pods, Services []string
	// Policies are also inspections: "namespace/name", or a name in any namespace.
	Policies []string
	// Verdicts are deny, audit, allow, drop, alert.
	Verdicts []string
	Methods  []string
	// Paths end in * for all that begin so.
	Paths []string
	Nodes []string
}

// Check says what is wrong with a filter.
func (f *Filter) Check() error {
	for _, v := range f.Verdicts {
		if !slices.Contains(whats, v) || v == "lost" {
			return fmt.Errorf("%q is no verdict: write deny, audit, allow, drop or alert", v)
		}
	}
	for _, list := range [][]string{f.Pods, f.Services, f.Policies} {
		for _, name := range list {
			if strings.Count(name, "/") > 1 || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") || name == "" {
				return fmt.Errorf("%q is no name: write NAMESPACE/NAME, or NAME", name)
			}
		}
	}
	return nil
}

// Matches tells whether an event is chosen. What was lost might have been anything.
func (f *Filter) Matches(e *Event) bool {
	if len(f.Nodes) > 0 && !slices.Contains(f.Nodes, e.Node) {
		return false
	}
	if e.What == "lost" {
		return true
	}
	ends := []verdict.Peer{e.Client, e.Server}
	inNamespace := func(namespace string) bool {
		return slices.ContainsFunc(ends, func(p verdict.Peer) bool { return strings.HasPrefix(p.Name, namespace+"/") })
	}
	ofPod := func(pod string) bool {
		return slices.ContainsFunc(ends, func(p verdict.Peer) bool { return named(p.Name, pod) })
	}
	among := func(have []string) func(string) bool {
		return func(name string) bool {
			return slices.ContainsFunc(have, func(h string) bool { return named(h, name) })
		}
	}
	return some(f.Namespaces, inNamespace) && some(f.Pods, ofPod) && some(f.Services, among(e.Services)) && some(f.Policies, among(e.By)) &&
		some(f.Verdicts, func(v string) bool { return v == e.What }) &&
		some(f.Methods, func(m string) bool { return strings.EqualFold(m, e.Method) }) &&
		some(f.Paths, func(p string) bool {
			prefix, all := strings.CutSuffix(p, "*")
			return e.Path == p || all && e.Path != "" && strings.HasPrefix(e.Path, prefix)
		})
}

// some tells whether one of the values is as wanted; no values want nothing.
func some(values []string, is func(string) bool) bool {
	return len(values) == 0 || slices.ContainsFunc(values, is)
}

// named tells whether "namespace/name" is what was asked for: the same, or the name alone.
func named(have, wanted string) bool {
	return have == wanted || !strings.Contains(wanted, "/") && strings.HasSuffix(have, "/"+wanted)
}
