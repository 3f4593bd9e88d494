package manifests

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/dataplane/manifests/spelling"
)

// shapeChecker holds a JSON value against a Go type, as strict decoding does, but reports everything that does not fit, and
// takes it out, so that the rest can be decoded and judged too.
type shapeChecker struct {
	// denyNullIn is a path under which a field without a value is a fault. Elsewhere it is as good as left out.
	denyNullIn string
	faults     []shapeFault
	fields     map[reflect.Type]structFields
}

// shapeFault is a value that does not fit its place.
type shapeFault struct {
	path  string
	value any
	why   string
	quote bool // the remedy is to put what was written in quotes
}

func newShapeChecker(denyNullIn string) *shapeChecker {
	return &shapeChecker{denyNullIn: denyNullIn, fields: map[reflect.Type]structFields{}}
}

// check returns whether the value can be kept. Of maps and lists it removes what cannot.
func (c *shapeChecker) check(path string, value any, t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if value == nil {
		return c.checkNull(path, t)
	}
	if t == reflect.TypeFor[intstr.IntOrString]() {
		return c.checkIntOrString(path, value)
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return c.checkCustom(path, value, t)
	}
	switch t.Kind() {
	case reflect.Struct:
		return c.checkStruct(path, value, t)
	case reflect.Map:
		return c.checkMap(path, value, t)
	case reflect.Slice:
		return c.checkSlice(path, value, t)
	case reflect.String:
		return c.checkString(path, value)
	case reflect.Bool:
		_, ok := value.(bool)
		return ok || c.wrong(path, value, "true or false", "")
	case reflect.Int, reflect.Int32, reflect.Int64:
		return c.checkInt(path, value, t.Bits())
	default:
		return true
	}
}

func (c *shapeChecker) add(path string, value any, why string) bool {
	c.faults = append(c.faults, shapeFault{path: path, value: value, why: why})
	return false
}

// wrong reports a value of another type than the field's.
func (c *shapeChecker) wrong(path string, value any, want, remedy string) bool {
	if remedy != "" {
		remedy = "; " + remedy
	}
	return c.add(path, value, fmt.Sprintf("must be %s, but is %s%s", want, typeName(value), remedy))
}

func typeName(value any) string {
	switch value.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64:
		return "a number"
	case float64:
		return "a number with a fraction or an exponent"
	case []any:
		return "a list"
	case map[string]any:
		return "a map"
	default:
		return "empty"
	}
}

func (c *shapeChecker) checkNull(path string, t reflect.Type) bool {
	within, ok := strings.CutPrefix(path, c.denyNullIn)
	if c.denyNullIn == "" || !ok || within != "" && !strings.ContainsAny(within[:1], ".[") {
		return true
	}
	remedy := "give it a value, or remove the line"
	switch {
	case strings.HasSuffix(path, "]"):
		remedy = "give the list item a value, or remove its dash"
	case t.Kind() == reflect.Struct:
		remedy = "write {} for one with nothing set, or remove the line"
	case t.Kind() == reflect.Slice:
		remedy = "give it items, or remove the line"
	}
	return c.add(path, nil, "has no value; "+remedy)
}

func (c *shapeChecker) checkString(path string, value any) bool {
	if _, ok := value.(string); ok {
		return true
	}
	c.wrong(path, value, "a string", "")
	switch value.(type) {
	case int64, float64, bool:
		c.faults[len(c.faults)-1].quote = true
	}
	return false
}

func (c *shapeChecker) checkInt(path string, value any, bits int) bool {
	switch v := value.(type) {
	case int64:
		if bits == 32 && (v < math.MinInt32 || v > math.MaxInt32) {
			return c.add(path, value, "is out of range; the field holds 32 bits")
		}
		return true
	case string:
		return c.wrong(path, value, "a whole number", "write it without quotes")
	case float64:
		return c.wrong(path, value, "a whole number", "write it with digits alone")
	default:
		return c.wrong(path, value, "a whole number", "")
	}
}

func (c *shapeChecker) checkIntOrString(path string, value any) bool {
	switch v := value.(type) {
	case string:
		return true
	case int64:
		if v < math.MinInt32 || v > math.MaxInt32 {
			return c.add(path, value, "is out of range; a port's number is from 1 to 65535")
		}
		return true
	default:
		return c.wrong(path, value, "a whole number or a name", "")
	}
}

// checkCustom tries types that decode themselves (times, quantities).
func (c *shapeChecker) checkCustom(path string, value any, t reflect.Type) bool {
	data, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(data, reflect.New(t).Interface())
	}
	if err != nil {
		return c.add(path, value, "is "+customForm(t))
	}
	return true
}

// customForm tells what a type that decodes itself wants.
func customForm(t reflect.Type) string {
	switch t.Name() {
	case "Time", "MicroTime":
		return `no time; write one such as "2026-01-02T03:04:05Z"`
	case "Quantity":
		return "no quantity; write one such as 2, 500m or 64Mi"
	default:
		return "no " + t.Name() + "; see `kubectl explain` for its form"
	}
}

func (c *shapeChecker) checkMap(path string, value any, t reflect.Type) bool {
	m, ok := value.(map[string]any)
	if !ok {
		return c.wrong(path, value, "a map", "write its keys and values on lines of their own, indented, or {}")
	}
	for _, key := range sortedKeys(m) {
		if !c.check(joinKey(path, key), m[key], t.Elem()) {
			delete(m, key)
		}
	}
	return true
}

func (c *shapeChecker) checkSlice(path string, value any, t reflect.Type) bool {
	if t.Elem().Kind() == reflect.Uint8 {
		return c.checkString(path, value)
	}
	list, ok := value.([]any)
	if !ok {
		return c.wrong(path, value, "a list", "begin each item with a dash, or write [ ] around them")
	}
	// An item that does not fit stays as a zero value: to take it out would move the ones after it to other places.
	for i, item := range list {
		if !c.check(fmt.Sprintf("%s[%d]", path, i), item, t.Elem()) {
			list[i] = nil
		}
	}
	return true
}

func (c *shapeChecker) checkStruct(path string, value any, t reflect.Type) bool {
	m, ok := value.(map[string]any)
	if !ok {
		remedy := "write its fields on lines of their own, indented, or {}"
		if _, isList := value.([]any); isList {
			remedy = "remove the dash"
		}
		return c.wrong(path, value, "a map", remedy)
	}
	fields := c.fieldsOf(t)
	for _, key := range sortedKeys(m) {
		field, ok := fields[key]
		if !ok {
			c.add(joinKey(path, key), nil, "is no field of this place; "+c.suggest(key, t))
			delete(m, key)
		} else if !c.check(joinKey(path, key), m[key], field) {
			delete(m, key)
		}
	}
	return true
}

// structFields are a struct's fields by their names in JSON.
type structFields map[string]reflect.Type

func (c *shapeChecker) fieldsOf(t reflect.Type) structFields {
	if have, ok := c.fields[t]; ok {
		return have
	}
	fields := structFields{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "" && f.Anonymous:
			maps.Copy(fields, c.fieldsOf(f.Type))
		case name != "" && name != "-":
			fields[name] = f.Type
		}
	}
	c.fields[t] = fields
	return fields
}

// maxFieldsListed is how many fields a remedy lists when it has no better idea.
const maxFieldsListed = 8

// suggest is the remedy for an unknown field.
func (c *shapeChecker) suggest(key string, t reflect.Type) string {
	known := sortedKeys(c.fieldsOf(t))
	if name := spelling.Nearest(key, known); name != "" {
		return fmt.Sprintf("did you mean %q?", name)
	}
	for _, name := range known {
		if below := c.fieldsBelow(c.fields[t][name]); slices.Contains(below, key) {
			return fmt.Sprintf("it belongs under %q: put it there", name)
		}
	}
	if len(known) <= maxFieldsListed {
		return "its fields are " + strings.Join(known, ", ")
	}
	return "remove it, or see `kubectl explain` for the fields"
}

// fieldsBelow are the fields of the struct that a field holds or lists.
func (c *shapeChecker) fieldsBelow(t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil
	}
	return sortedKeys(c.fieldsOf(t))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
