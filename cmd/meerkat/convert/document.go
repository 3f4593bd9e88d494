package convert

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// Document is one object as it was read.
type Document struct {
	// Origin is its file and the number of the document in it ("policies.yaml, document 2").
	Origin string
	// Kind and APIVersion are as they are written; Name is the object's "namespace/name", or "name" without a namespace.
	Kind, APIVersion, Name string
	JSON                   []byte
}

type header struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Items             []map[string]any `json:"items"`
}

// Read reads the documents of YAML or JSON text; a List's items become documents of their own.
func Read(name string, in io.Reader) ([]Document, error) {
	reader := utilyaml.NewYAMLReader(bufio.NewReader(in))
	var all []Document
	var errs []error
	for number := 1; ; number++ {
		text, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all, errors.Join(errs...)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		documents, err := documents(fmt.Sprintf("%s, document %d", name, number), text)
		all, errs = append(all, documents...), append(errs, err)
	}
}

func documents(origin string, text []byte) ([]Document, error) {
	object, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", origin, err)
	}
	var h header
	if err := yaml.Unmarshal(object, &h); err != nil {
		return nil, fmt.Errorf("%s: it is no Kubernetes object: %w", origin, err)
	}
	switch {
	case string(bytes.TrimSpace(object)) == "null": // comments alone
		return nil, nil
	case h.Kind == "" || h.APIVersion == "":
		return nil, fmt.Errorf("%s: it has no kind or no apiVersion, so it is no Kubernetes object", origin)
	case !strings.HasSuffix(h.Kind, "List") || h.Items == nil:
		d := Document{Origin: origin, Kind: h.Kind, APIVersion: h.APIVersion, Name: h.Name, JSON: object}
		if h.Namespace != "" {
			d.Name = h.Namespace + "/" + h.Name
		}
		return []Document{d}, nil
	}
	var all []Document
	var errs []error
	for i, item := range h.Items {
		text, err := yaml.Marshal(item)
		if err != nil {
			return nil, err
		}
		inside, err := documents(fmt.Sprintf("%s, item %d", origin, i+1), text)
		all, errs = append(all, inside...), append(errs, err)
	}
	return all, errors.Join(errs...)
}
