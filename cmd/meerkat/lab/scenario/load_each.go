package scenario

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxEach bounds how many steps a forEach can make.
const maxEach = 1000

// expand gives the steps that a step with forEach stands for: one for each combination of its values, with $(NAME) replaced by
// the value in every string. A step without forEach is itself.
func (d *decoder) expand(n *yaml.Node, path string) []*yaml.Node {
	if n.Kind != yaml.MappingNode {
		return []*yaml.Node{n}
	}
	at := -1
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "forEach" {
			at = i
		}
	}
	if at < 0 {
		return []*yaml.Node{n}
	}
	rest := *n
	rest.Content = slices.Concat(n.Content[:at], n.Content[at+2:])
	var steps []*yaml.Node
	for _, values := range d.combinations(follow(n.Content[at+1]), join(path, "forEach")) {
		steps = append(steps, d.substitute(&rest, path, values))
	}
	return steps
}

// combinations reads a forEach: each of its members is a list, and each combination has one item of each list. An item is a
// value for the member's name, or an object with values for several names.
func (d *decoder) combinations(n *yaml.Node, path string) []map[string]string {
	if n.Kind != yaml.MappingNode {
		d.fault(n, path, "must be an object of lists, such as {family: [IPv4, IPv6]}, but is %s", describe(n))
		return nil
	}
	all := []map[string]string{{}}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		var items []map[string]string
		d.list(follow(n.Content[i+1]), join(path, name), func(n *yaml.Node, path string) {
			items = append(items, d.values(n, path, name))
		})
		var more []map[string]string
		for _, before := range all {
			for _, item := range items {
				both := maps.Clone(before)
				maps.Copy(both, item)
				more = append(more, both)
			}
		}
		all = more
	}
	if len(all) == 0 || len(all) > maxEach {
		d.fault(n, path, "stands for %d steps, but must for 1 to %d", len(all), maxEach)
		return nil
	}
	return all
}

func (d *decoder) values(n *yaml.Node, path, name string) map[string]string {
	if n.Kind != yaml.MappingNode {
		return map[string]string{name: d.text(n, path)}
	}
	values := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		values[n.Content[i].Value] = d.text(follow(n.Content[i+1]), join(path, n.Content[i].Value))
	}
	return values
}

var reference = regexp.MustCompile(`\$\(([A-Za-z][A-Za-z0-9]*)\)`)

// substitute copies a node with its references replaced.
func (d *decoder) substitute(n *yaml.Node, path string, values map[string]string) *yaml.Node {
	made := *follow(n)
	made.Anchor = ""
	if made.Kind == yaml.ScalarNode {
		made.Value = reference.ReplaceAllStringFunc(made.Value, func(text string) string {
			name := reference.FindStringSubmatch(text)[1]
			value, known := values[name]
			if !known {
				d.fault(n, path, "%s is not known; forEach has %s", text, strings.Join(slices.Sorted(maps.Keys(values)), ", "))
			}
			return value
		})
		return &made
	}
	made.Content = slices.Clone(made.Content)
	for i, child := range made.Content {
		made.Content[i] = d.substitute(child, path, values)
	}
	return &made
}
