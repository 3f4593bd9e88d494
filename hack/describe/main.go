// Command describe puts the descriptions in resource definitions into the form that `kubectl explain` prints well: a paragraph is one
// line, which kubectl wraps, and not the lines that it has in Go's source. Examples stay on lines of their own.
//
//	go run ./hack/describe config/crd/bases/*.yaml
package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

func main() {
	for _, file := range os.Args[1:] {
		if err := describe(file); err != nil {
			fmt.Fprintln(os.Stderr, "describe:", err)
			os.Exit(1)
		}
	}
}

func describe(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var definition map[string]any
	if err := yaml.Unmarshal(data, &definition); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	walk(definition)
	data, err = yaml.Marshal(definition)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append([]byte("---\n"), data...), 0o644) //nolint:gosec // It is in the repository.
}

func walk(value any) {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			walk(item)
		}
	case map[string]any:
		for key, item := range v {
			if text, ok := item.(string); ok && key == "description" {
				v[key] = paragraphs(text)
				continue
			}
			walk(item)
		}
	}
}

// wrapped is the end of a line that goes on in the next one: which is no empty line, example, list or line that is set in.
var wrapped = regexp.MustCompile(`([^\n])\n([^\n\s*-])`)

func paragraphs(text string) string {
	const mark = "\x00"
	text = strings.ReplaceAll(text, "\nExample", mark+"Example")
	for joined := ""; joined != text; {
		joined, text = text, wrapped.ReplaceAllString(text, "$1 $2")
	}
	return strings.ReplaceAll(text, mark, "\n")
}
