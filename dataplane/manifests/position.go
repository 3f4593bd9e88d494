package manifests

import (
	"strconv"
	"strings"

	yamlnode "go.yaml.in/yaml/v3"
)

// joinKey appends a map's key to a path: with a dot when it looks like a field, in brackets when not, as field.Path does.
func joinKey(path, key string) string {
	switch {
	case key == "" || len(key) > 63 || strings.ContainsFunc(key, func(r rune) bool { return !isWordChar(r) }):
		return path + "[" + bare(key) + "]"
	case path == "":
		return key
	default:
		return path + "." + key
	}
}

func isWordChar(r rune) bool {
	return r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// lineOf returns the line of the field at a path below a node; where the path leads to nothing, that of what encloses it.
func lineOf(n *yamlnode.Node, path string) int {
	_, line := find(n, path)
	return line
}

// find returns what a path leads to below a node, or nil, and the line of the last of its steps that leads to something.
func find(n *yamlnode.Node, path string) (found *yamlnode.Node, line int) {
	line = n.Line
	for path != "" {
		for n.Kind == yamlnode.AliasNode {
			n = n.Alias
		}
		var step string
		step, path = cutStep(path)
		next, nextLine := child(n, step)
		if next == nil {
			return nil, line
		}
		n, line = next, nextLine
	}
	return n, line
}

// cutStep takes the first field, key or index off a path.
func cutStep(path string) (step, rest string) {
	if inner, ok := strings.CutPrefix(path, "["); ok {
		step, rest, _ = strings.Cut(inner, "]")
	} else if end := strings.IndexAny(path, ".["); end >= 0 {
		step, rest = path[:end], path[end:]
	} else {
		step = path
	}
	return step, strings.TrimPrefix(rest, ".")
}

// child returns the value of a map's key, or a list's item, and the line that it begins on (a key's own).
func child(n *yamlnode.Node, step string) (value *yamlnode.Node, line int) {
	switch n.Kind {
	case yamlnode.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && 0 <= i && i < len(n.Content) {
			return n.Content[i], n.Content[i].Line
		}
	case yamlnode.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i+1], n.Content[i].Line
			}
		}
	}
	return nil, 0
}
