package suggesting

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// generalise replaces the paths of HTTP atoms by prefixes, and DNS names by suffixes, where there are more than most of them at one place; 0 leaves
// them all as they are. Atoms that differ in method or host stay apart.
func generalise(atoms map[string]atom, most int) map[string]atom {
	if most <= 0 {
		return atoms
	}
	type place struct{ method, host, second string }
	paths := map[place]*tree{}
	names := newTree()
	out := map[string]atom{}
	for key, a := range atoms {
		switch {
		case a.method != "" && !a.regex:
			at := place{a.method, a.host, a.second}
			if paths[at] == nil {
				paths[at] = newTree()
			}
			paths[at].add(strings.Split(a.path, "/")[1:])
		case a.dns != "":
			labels := strings.Split(a.dns, ".")
			slices.Reverse(labels)
			names.add(labels)
		default:
			out[key] = a
		}
	}
	for at, t := range paths {
		for _, p := range t.patterns(nil, most, 1) {
			a := atom{method: at.method, host: at.host, second: at.second, path: "/" + strings.Join(p.words, "/"), prefix: p.all}
			if p.all {
				a.path += "/"
			}
			out[a.key()] = a
		}
	}
	for _, p := range names.patterns(nil, most, 2) {
		slices.Reverse(p.words)
		a := atom{dns: strings.Join(p.words, ".")}
		if p.all {
			a.dns = "*." + a.dns
		}
		out[a.key()] = a
	}
	return out
}

// tree has texts word by word.
type tree struct {
	ends bool // a text ends here
	next map[string]*tree
}

func newTree() *tree { return &tree{next: map[string]*tree{}} }

func (t *tree) add(words []string) {
	for _, w := range words {
		if t.next[w] == nil {
			t.next[w] = newTree()
		}
		t = t.next[w]
	}
	t.ends = true
}

// pattern is a text or, with all, what goes on after it.
type pattern struct {
	words []string
	all   bool
}

// patterns gives the texts below t, with one pattern in place of what goes on after a text of at least depth words, where those are more than most.
func (t *tree) patterns(before []string, most, depth int) []pattern {
	var own, below []pattern
	if t.ends {
		own = append(own, pattern{words: before})
	}
	for _, w := range slices.SortedFunc(maps.Keys(t.next), cmp.Compare) {
		below = append(below, t.next[w].patterns(append(slices.Clone(before), w), most, depth)...)
	}
	if len(below) > most && len(before) >= depth {
		below = []pattern{{words: before, all: true}}
	}
	return append(own, below...)
}
