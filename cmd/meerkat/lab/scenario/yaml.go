package scenario

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/meerkat-dev/meerkat/dataplane/manifests/spelling"
)

// decoder walks YAML nodes and collects faults. It goes on after a fault, so that all of them are told at once.
type decoder struct {
	file   string
	faults Faults
}

func (d *decoder) fault(n *yaml.Node, path, format string, args ...any) {
	line := 0
	if n != nil {
		line = n.Line
	}
	d.faults = append(d.faults, Fault{File: d.file, Line: line, Path: path, Message: fmt.Sprintf(format, args...)})
}

// fields says what may stand in an object, and what reads it.
type fields map[string]func(n *yaml.Node, path string)

// object reads a mapping. Names that are not in fields are faults, and so are required ones that are missing.
func (d *decoder) object(n *yaml.Node, path string, f fields, required ...string) {
	n = follow(n)
	if n.Kind != yaml.MappingNode {
		d.fault(n, path, "must be an object with %s, but is %s", fieldNames(f), describe(n))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		read, known := f[key.Value]
		switch {
		case seen[key.Value]:
			d.fault(key, at, "stands here twice; keep one")
		case !known:
			d.unknown(key, at, f)
		default:
			read(follow(value), at)
		}
		seen[key.Value] = true
	}
	for _, name := range required {
		if !seen[name] {
			d.fault(n, join(path, name), "is required")
		}
	}
}

func (d *decoder) unknown(key *yaml.Node, path string, f fields) {
	if meant := spelling.Nearest(key.Value, slices.Sorted(maps.Keys(f))); meant != "" {
		d.fault(key, path, "is not known; did you mean %s?", meant)
		return
	}
	d.fault(key, path, "is not known; known here are %s", fieldNames(f))
}

// list reads a sequence.
func (d *decoder) list(n *yaml.Node, path string, read func(n *yaml.Node, path string)) {
	if n.Kind != yaml.SequenceNode {
		d.fault(n, path, "must be a list, but is %s", describe(n))
		return
	}
	for i, item := range n.Content {
		read(follow(item), fmt.Sprintf("%s[%d]", path, i))
	}
}

// text reads a scalar of any type as it is written.
func (d *decoder) text(n *yaml.Node, path string) string {
	if n.Kind != yaml.ScalarNode {
		d.fault(n, path, "must be a string, but is %s", describe(n))
		return ""
	}
	if n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

// nonEmpty reads a scalar that must say something.
func (d *decoder) nonEmpty(n *yaml.Node, path, remedy string) string {
	faults := len(d.faults)
	s := d.text(n, path)
	if s == "" && len(d.faults) == faults {
		d.fault(n, path, "is empty; %s", remedy)
	}
	return s
}

func (d *decoder) boolean(n *yaml.Node, path string) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		d.fault(n, path, "must be true or false, but is %s", describe(n))
		return false
	}
	return strings.EqualFold(n.Value, "true")
}

func (d *decoder) integer(n *yaml.Node, path string, low, high int) int {
	i, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || i < low || i > high {
		d.fault(n, path, "must be a number from %d to %d, but is %s", low, high, describe(n))
		return low
	}
	return i
}

// maxDuration bounds every time in a scenario.
const maxDuration = 10 * time.Minute

func (d *decoder) duration(n *yaml.Node, path string) time.Duration {
	t, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || t < 0 || t > maxDuration {
		d.fault(n, path, "must be a time with its unit, such as 20ms or 2s, up to 10m, but is %s", describe(n))
		return 0
	}
	return t
}

// oneOf reads a word out of a set.
func (d *decoder) oneOf(n *yaml.Node, path string, words ...string) string {
	if n.Kind == yaml.ScalarNode && slices.Contains(words, n.Value) {
		return n.Value
	}
	d.fault(n, path, "must be one of %s, but is %s", strings.Join(words, ", "), describe(n))
	return ""
}

// follow gives what an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// describe says what a node is, for the person who wrote it.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	}
	if n.Tag == "!!null" || n.Value == "" {
		return "empty"
	}
	return strconv.Quote(n.Value)
}

func fieldNames(f fields) string { return strings.Join(slices.Sorted(maps.Keys(f)), ", ") }

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
