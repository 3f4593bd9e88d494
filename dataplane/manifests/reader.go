package manifests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	yamlnode "go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// reader collects objects and faults.
type reader struct {
	objects Objects
	faults  Faults
}

func newReader() *reader {
	return &reader{objects: Objects{origins: map[objectKey]Origin{}}}
}

func (r *reader) fault(f Fault) { r.faults = append(r.faults, f) }

func (r *reader) result() (*Objects, error) {
	if len(r.faults) > 0 {
		return nil, r.faults
	}
	return &r.objects, nil
}

// readDocument reads one YAML document: an object, or a List of them.
func (r *reader) readDocument(at Origin, text []byte) {
	root, line, err := parse(text)
	if err != nil {
		at.Line += max(line, 1) - 1
		r.fault(Fault{Origin: at, Why: err.Error()})
		return
	}
	if root == nil {
		return
	}
	base := at.Line - 1
	for _, d := range duplicateKeys(root, "") {
		at.Line = base + d.line
		r.fault(Fault{Origin: at, Object: keyOf(root).String(), Path: d.path, Why: fmt.Sprintf("stands twice in one map (first on line %d); keep one of them", base+d.firstLine)})
	}
	at.Line = base + root.Line
	value, err := toJSONValue(text)
	if err != nil {
		_, why := syntaxError(err)
		r.fault(Fault{Origin: at, Why: "is not YAML that can be read as JSON: " + why})
		return
	}
	r.readValue(&rawObject{origin: at, base: base, node: root}, value)
}

// keyOf is the object's name as far as the syntax tree tells it.
func keyOf(root *yamlnode.Node) objectKey {
	text := func(n *yamlnode.Node, key string) string {
		if value, _ := child(n, key); value != nil && value.Kind == yamlnode.ScalarNode {
			return value.Value
		}
		return ""
	}
	key := objectKey{kind: text(root, "kind")}
	if metadata, _ := child(root, "metadata"); metadata != nil {
		key.namespace, key.name = text(metadata, "namespace"), text(metadata, "name")
	}
	return key
}

// toJSONValue converts a document as kubectl does, so that a value means the same here and there.
func toJSONValue(text []byte) (any, error) {
	data, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, err
	}
	var value any
	return value, kjson.UnmarshalCaseSensitivePreserveInts(data, &value)
}

// rawObject is an object between YAML and its Go type.
type rawObject struct {
	origin Origin
	base   int            // line of the file before the document's first
	node   *yamlnode.Node // the document
	prefix string         // path of the object in the document: "items[3]" in a List
	kind   kind
	key    objectKey
	fields map[string]any
	shape  pathSet // what did not fit its Go type, was reported and taken out
}

// readValue reads an object or a List.
func (r *reader) readValue(o *rawObject, value any) {
	fields, ok := value.(map[string]any)
	if !ok {
		r.fault(Fault{Origin: o.origin, Path: o.prefix, Value: shown(value),
			Why: fmt.Sprintf("must be an object with apiVersion, kind and metadata, but is %s; separate objects by lines of ---", typeName(value))})
		return
	}
	o.fields = fields
	name, _ := fields["kind"].(string)
	apiVersion, _ := fields["apiVersion"].(string)
	o.key.kind = name
	if name == "List" && apiVersion == "v1" && o.prefix == "" {
		r.readList(o)
		return
	}
	o.setName()
	k, known := kindNamed(name)
	switch {
	case name == "":
		r.objectFault(o, "kind", fields["kind"], "must name the kind of the object; the kinds that are read here are "+kindNames())
	case apiVersion == "":
		r.objectFault(o, "apiVersion", fields["apiVersion"], "must say the version of the object's kind"+known1(known, "; write "+k.apiVersion))
	case !known:
		r.objectFault(o, "kind", name, fmt.Sprintf("is not read here; the kinds that are read are %s: leave other objects out", kindNames()))
	case apiVersion != k.apiVersion:
		r.objectFault(o, "apiVersion", apiVersion, fmt.Sprintf("is not a version of %s that is read here; write %s", k.name, k.apiVersion))
	default:
		o.kind = k
		r.readKnown(o)
	}
}

func known1(ok bool, text string) string {
	if ok {
		return text
	}
	return ""
}

// setName takes the object's name from what was written, for messages; it may be of the wrong type or hostile.
func (o *rawObject) setName() {
	metadata, _ := o.fields["metadata"].(map[string]any)
	o.key.name, _ = metadata["name"].(string)
	o.key.namespace, _ = metadata["namespace"].(string)
}

// readList reads the items of a v1 List, as `kubectl get -o yaml` prints them.
func (r *reader) readList(o *rawObject) {
	items, ok := o.fields["items"].([]any)
	if !ok {
		r.objectFault(o, "items", o.fields["items"], "must be the list of the List's objects")
		return
	}
	for i, item := range items {
		prefix := fmt.Sprintf("items[%d]", i)
		at := o.origin
		at.Line = o.base + lineOf(o.node, prefix)
		r.readValue(&rawObject{origin: at, base: o.base, node: o.node, prefix: prefix}, item)
	}
}

// readKnown reads an object of a known kind.
func (r *reader) readKnown(o *rawObject) {
	denyNullIn := ""
	if o.kind.apiVersion == v1alpha1.GroupVersion.String() {
		denyNullIn = "spec"
	}
	shape := newShapeChecker(denyNullIn)
	shape.check("", o.fields, o.kind.goType)
	o.shape = newPathSet()
	for _, f := range shape.faults {
		o.shape.add(f.path)
	}
	o.setName()
	if !o.kind.cluster && o.key.namespace == "" {
		o.key.namespace = metav1.NamespaceDefault
	}
	for _, f := range shape.faults {
		r.shapeFault(o, f)
	}
	o.kind.add(r, o)
}

// shapeFault reports a value of the wrong type as it was written, not as YAML understood it: "on" and not "true".
func (r *reader) shapeFault(o *rawObject, f shapeFault) {
	written, _ := find(o.node, joinPaths(o.prefix, f.path))
	if written == nil || written.Kind != yamlnode.ScalarNode || written.Style != 0 {
		r.objectFault(o, f.path, f.value, f.why)
		return
	}
	if f.value != nil {
		f.value = abridged(bare(written.Value))
	}
	if f.quote {
		f.why += "; put it in quotes: " + quoted(written.Value)
	}
	r.objectFault(o, f.path, f.value, f.why)
}

// objectFault reports a fault at a path of the object.
func (r *reader) objectFault(o *rawObject, path string, value any, why string) {
	at := o.origin
	full := joinPaths(o.prefix, path)
	at.Line = o.base + lineOf(o.node, full)
	r.fault(Fault{Origin: at, Object: o.key.String(), Path: full, Value: shown(value), Why: why})
}

func joinPaths(prefix, path string) string {
	if prefix == "" || path == "" || strings.HasPrefix(path, "[") {
		return prefix + path
	}
	return prefix + "." + path
}

// fieldFaults reports what validation found, less what only follows from a shape that was reported already.
func (r *reader) fieldFaults(o *rawObject, errs field.ErrorList) {
	for _, err := range errs {
		if o.shape.hasWithin(err.Field) || o.shape.hasAround(err.Field) {
			continue
		}
		r.objectFault(o, err.Field, valueOf(err), reason(err))
	}
}

// decode turns the object's fields, whose shape was checked, into its Go type.
func decode(o *rawObject, into any) error {
	data, err := json.Marshal(o.fields)
	if err != nil {
		return err
	}
	return kjson.NewDecoderCaseSensitivePreserveInts(bytes.NewReader(data)).Decode(into)
}
