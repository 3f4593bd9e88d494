package manifests

import "strings"

// pathSet is a set of field paths that answers in a time that does not depend on its size: a large file can have many faults.
type pathSet struct {
	members   map[string]bool
	ancestors map[string]bool // of members, themselves included
}

func newPathSet() pathSet {
	return pathSet{members: map[string]bool{}, ancestors: map[string]bool{}}
}

func (s pathSet) add(path string) {
	s.members[path] = true
	for outer := range ancestorsOf(path) {
		s.ancestors[outer] = true
	}
}

// has tells whether the path is a member.
func (s pathSet) has(path string) bool { return s.members[path] }

// hasWithin tells whether a member is the path or lies below it.
func (s pathSet) hasWithin(path string) bool { return s.ancestors[path] }

// hasAround tells whether a member is the path or lies above it.
func (s pathSet) hasAround(path string) bool {
	for outer := range ancestorsOf(path) {
		if s.members[outer] {
			return true
		}
	}
	return false
}

// ancestorsOf yields a path and the paths that lead to it: a[0].b, a[0], a and "".
func ancestorsOf(path string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for yield(path) && path != "" {
			path = path[:max(strings.LastIndexAny(path, ".["), 0)]
		}
	}
}
