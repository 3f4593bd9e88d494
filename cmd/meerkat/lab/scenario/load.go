package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"
)

// Load reads and checks a scenario file. The error is Faults, every fault at once, each with file, line, path and remedy, unless
// the file could not be read.
func Load(path string) (*Scenario, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the scenario cannot be read: %w", err)
	}
	s, err := Parse(data, path)
	if err != nil {
		return nil, err
	}
	var faults Faults
	for _, f := range s.files() {
		if _, err := os.Stat(f.name); err != nil {
			faults = append(faults, Fault{File: path, Line: f.line, Path: f.path, Message: fmt.Sprintf(
				"the file cannot be read: %v; names are relative to the scenario's directory", err)})
		}
	}
	if len(faults) > 0 {
		return nil, faults.sorted()
	}
	return s, nil
}

// Is tells whether the file's content is a Scenario and not objects for a cluster.
func Is(data []byte) bool {
	var head struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string `yaml:"kind"`
	}
	return yaml.Unmarshal(data, &head) == nil && head.Kind == Kind
}

// Parse checks a scenario without reading the files that it names. path tells what they are relative to.
func Parse(data []byte, path string) (*Scenario, error) {
	d := &decoder{file: path}
	documents := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	if err := documents.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		d.fault(nil, "", "no Scenario can be read from this file: %v", err)
		return nil, d.faults
	}
	if documents.Decode(&second) == nil {
		d.fault(&second, "", "a scenario file holds one document, but a second begins here; "+
			"put objects into files of their own and list these under manifests")
	}
	s := d.scenario(follow(document.Content[0]), path)
	if len(d.faults) > 0 {
		return nil, d.faults.sorted()
	}
	return s, nil
}

// namedFile is a file that a scenario names.
type namedFile struct {
	name, path string
	line       int
}

// files gives the files that the scenario names.
func (s *Scenario) files() []namedFile {
	var files []namedFile
	for i, m := range s.Manifests {
		files = append(files, namedFile{name: m, path: fmt.Sprintf("manifests[%d]", i)})
	}
	for i := range s.Steps {
		step := &s.Steps[i]
		files = append(files, filesOf(step.Apply, step.Delete, step.path, step.Line)...)
		if step.Connection == nil {
			continue
		}
		for j, r := range step.Connection.Requests {
			files = append(files, filesOf(r.Apply, r.Delete, fmt.Sprintf("%s.connection.requests[%d]", step.path, j), r.Line)...)
		}
	}
	return files
}

func filesOf(a *Apply, d *Delete, path string, line int) []namedFile {
	switch {
	case a != nil:
		return []namedFile{{name: a.File, path: path + ".apply.file", line: line}}
	case d != nil:
		return []namedFile{{name: d.File, path: path + ".delete.file", line: line}}
	}
	return nil
}

// scenario reads the document.
func (d *decoder) scenario(n *yaml.Node, path string) *Scenario {
	s := &Scenario{Path: path, Nodes: 1}
	s.Timeouts = Timeouts{}.withDefaults()
	dir := filepath.Dir(path)
	d.object(n, "", fields{
		"apiVersion": func(n *yaml.Node, path string) { d.oneOf(n, path, APIVersion) },
		"kind":       func(n *yaml.Node, path string) { d.oneOf(n, path, Kind) },
		"metadata": func(n *yaml.Node, path string) {
			d.object(n, path, fields{
				"name":        func(n *yaml.Node, path string) { s.Name = d.nonEmpty(n, path, "give the scenario a name") },
				"annotations": func(*yaml.Node, string) {},
				"labels":      func(*yaml.Node, string) {},
			}, "name")
		},
		"description": func(n *yaml.Node, path string) { s.Description = d.text(n, path) },
		"manifests": func(n *yaml.Node, path string) {
			d.list(n, path, func(n *yaml.Node, path string) { s.Manifests = append(s.Manifests, d.fileName(n, path, dir)) })
		},
		"nodes":    func(n *yaml.Node, path string) { s.Nodes = d.integer(n, path, 1, 16) },
		"timeouts": func(n *yaml.Node, path string) { s.Timeouts = d.timeouts(n, path) },
		"steps": func(n *yaml.Node, path string) {
			d.list(n, path, func(n *yaml.Node, path string) {
				for _, each := range d.expand(n, path) {
					s.Steps = append(s.Steps, d.step(each, path, dir))
				}
			})
			if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
				d.fault(n, path, "is empty; without a step nothing is shown")
			}
		},
	}, "apiVersion", "kind", "metadata", "steps")
	return s
}

// fileName reads a file's name, relative to the scenario's directory.
func (d *decoder) fileName(n *yaml.Node, path, dir string) string {
	name := d.nonEmpty(n, path, "name a file with Kubernetes objects")
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

func (d *decoder) timeouts(n *yaml.Node, path string) Timeouts {
	var t Timeouts
	d.object(n, path, fields{
		"answer":  func(n *yaml.Node, path string) { t.Answer = d.duration(n, path) },
		"verdict": func(n *yaml.Node, path string) { t.Verdict = d.duration(n, path) },
		"settle":  func(n *yaml.Node, path string) { t.Settle = d.duration(n, path) },
	})
	return t.withDefaults()
}

// withDefaults fills in what is not set.
func (t Timeouts) withDefaults() Timeouts {
	fill := func(d *time.Duration, fallback time.Duration) {
		if *d == 0 {
			*d = fallback
		}
	}
	fill(&t.Answer, 2*time.Second)
	fill(&t.Verdict, 3*time.Second)
	fill(&t.Settle, 300*time.Millisecond)
	return t
}
