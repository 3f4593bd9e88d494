package manifests

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	yamlnode "go.yaml.in/yaml/v3"
)

// document is one YAML document of a file.
type document struct {
	text []byte
	line int // of the file, at which text begins
}

// splitDocuments cuts a stream at its document markers. A marker stays at the head of its document, since the document may
// begin on the same line.
func splitDocuments(data []byte) []document {
	var documents []document
	start, startLine, line := 0, 1, 1
	cut := func(end int) {
		if len(bytes.TrimSpace(data[start:end])) > 0 {
			documents = append(documents, document{text: data[start:end], line: startLine})
		}
	}
	for pos := 0; pos < len(data); line++ {
		next := len(data)
		if i := bytes.IndexByte(data[pos:], '\n'); i >= 0 {
			next = pos + i + 1
		}
		switch text := data[pos:next]; {
		case isMarker(text, "---"):
			cut(pos)
			start, startLine = pos, line
		case isMarker(text, "..."):
			cut(pos)
			start, startLine = next, line+1
		}
		pos = next
	}
	cut(len(data))
	return documents
}

// isMarker tells whether a line is a document marker: the marker alone, or followed by white space.
func isMarker(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || strings.IndexByte(" \t\r\n", rest[0]) >= 0)
}

// Bounds of one document with its anchors written out: a few lines of YAML can stand for gigabytes.
const (
	maxNodes = 1_000_000
	maxDepth = 64
)

// parse returns the document's syntax tree, which knows lines; nil for a document without content. The error is a sentence
// without file and line; line is counted in the document.
func parse(text []byte) (root *yamlnode.Node, line int, err error) {
	var top yamlnode.Node
	if err := yamlnode.Unmarshal(text, &top); err != nil {
		line, why := syntaxError(err)
		return nil, line, fmt.Errorf("is not YAML: %s", why)
	}
	if top.Kind != yamlnode.DocumentNode || len(top.Content) == 0 {
		return nil, 0, nil
	}
	root = top.Content[0]
	if root.Kind == yamlnode.ScalarNode && root.Tag == "!!null" {
		return nil, 0, nil
	}
	m := measure{done: map[*yamlnode.Node]extent{}}
	m.visit(root, 0)
	if m.failure != "" {
		return nil, m.line, fmt.Errorf("%s", m.failure)
	}
	return root, 0, nil
}

var yamlErrorLine = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:\s*)?line (\d+): `)

// syntaxError takes the line out of a YAML error and adds a remedy to those that need one.
func syntaxError(err error) (line int, why string) {
	why = strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlErrorLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
		why = err.Error()[len(m[0]):]
	}
	switch {
	case strings.Contains(why, "cannot start any token"):
		why += "; indent with spaces, not tabs, and quote text that begins with one of @ ` % or a tab"
	case strings.Contains(why, "mapping values are not allowed"):
		why += "; check the indentation, and quote text that contains ': '"
	case strings.Contains(why, "unexpected end of stream"):
		why += "; close the quotes or brackets that are open"
	case strings.Contains(why, "unsupported value"):
		why += "; write a number"
	case strings.Contains(why, "could not find expected ':'"):
		why += "; end each key, of at most 1024 characters, with a colon and a space"
	case strings.Contains(why, "did not find expected"):
		why += "; check the indentation, brackets and quotes of this line and the ones before"
	}
	return line, why
}

// measure finds out how large a document is once its anchors are written out, without writing them out.
type measure struct {
	done    map[*yamlnode.Node]extent
	failure string
	line    int
}

// extent is the size of a part of a document.
type extent struct{ nodes, bytes, depth int }

// visit returns the extent of a node. Each anchored node is measured once.
func (m *measure) visit(n *yamlnode.Node, depth int) extent {
	if m.failure != "" {
		return extent{}
	}
	if have, ok := m.done[n]; ok {
		if have.nodes == 0 {
			m.fail(n, "refers to itself by its anchor; write the value out")
		}
		return have
	}
	if depth > maxDepth {
		m.fail(n, fmt.Sprintf("is nested deeper than %d levels; no object that is read here needs that", maxDepth))
		return extent{}
	}
	if n.Anchor != "" {
		m.done[n] = extent{} // being measured
	}
	for i := 0; n.Kind == yamlnode.MappingNode && i < len(n.Content); i += 2 {
		if n.Content[i].Kind != yamlnode.ScalarNode {
			m.fail(n.Content[i], "has something other than a plain word before the colon; quote text that begins with one of ? [ { * &")
		}
	}
	total := extent{nodes: 1, bytes: len(n.Value)}
	children := n.Content
	if n.Kind == yamlnode.AliasNode {
		children = []*yamlnode.Node{n.Alias}
	}
	for _, child := range children {
		e := m.visit(child, depth+1)
		total.nodes = min(total.nodes+e.nodes, maxNodes+1)
		total.bytes = min(total.bytes+e.bytes, maxFileBytes+1)
		total.depth = max(total.depth, e.depth+1)
	}
	switch {
	case total.nodes > maxNodes || total.bytes > maxFileBytes:
		m.fail(n, fmt.Sprintf("is too large with its anchors written out (over %d values or %d MiB); split it, or use fewer aliases", maxNodes, maxFileBytes>>20))
	case depth+total.depth > 2*maxDepth:
		m.fail(n, fmt.Sprintf("is nested deeper than %d levels with its anchors written out; use fewer aliases", 2*maxDepth))
	}
	if n.Anchor != "" {
		m.done[n] = total
	}
	return total
}

func (m *measure) fail(n *yamlnode.Node, why string) {
	if m.failure == "" {
		m.failure, m.line = why, n.Line
	}
}

// duplicateKey is a key that stands twice in one map.
type duplicateKey struct {
	path            string
	line, firstLine int
}

// duplicateKeys returns the keys that stand twice in one map of the document.
func duplicateKeys(n *yamlnode.Node, path string) []duplicateKey {
	var found []duplicateKey
	switch n.Kind {
	case yamlnode.MappingNode:
		first := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, at := n.Content[i], joinKey(path, n.Content[i].Value)
			if line, ok := first[key.Value]; ok && key.Kind == yamlnode.ScalarNode {
				found = append(found, duplicateKey{path: at, line: key.Line, firstLine: line})
			} else {
				first[key.Value] = key.Line
			}
			found = append(found, duplicateKeys(n.Content[i+1], at)...)
		}
	case yamlnode.SequenceNode:
		for i, item := range n.Content {
			found = append(found, duplicateKeys(item, fmt.Sprintf("%s[%d]", path, i))...)
		}
	}
	return found
}
