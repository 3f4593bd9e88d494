package api_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/config/crd"
)

// celCase is an object that breaks one CEL rule, and one that is held to the same rule and keeps it.
type celCase struct {
	Kind string `json:"kind"`
	// At is the field that the API server names. Words in capitals stand for several, here and in the objects: such a case counts as
	// several.
	At string `json:"at"`
	// Message is the beginning of the rule's message.
	Message string `json:"message"`
	// Before is what is stored, for rules about changes.
	Before map[string]any `json:"before,omitempty"`
	// Refused breaks the rule and nothing else.
	Refused map[string]any `json:"refused"`
	// Passes keeps it.
	Passes map[string]any `json:"passes"`
}

// celRule is one rule of a definition.
type celRule struct{ kind, path, message string }

// TestEveryCELRule holds each CEL rule of each definition to one case at least that passes and one that is refused with exactly that
// rule's message, by a real API server.
func TestEveryCELRule(t *testing.T) {
	rules := celRules(t)
	t.Logf("the definitions have %d CEL rules", len(rules))
	covered := map[celRule]bool{}
	for _, c := range celCases(t) {
		t.Run(c.Kind+" "+c.At+" "+c.Message, func(t *testing.T) {
			rule := ruleOf(t, rules, c)
			if err := submit(t, c, c.Refused); !refusedBy(err, c.At, rule.message) {
				t.Errorf("should be refused at %s alone, because %q, but: %v", c.At, rule.message, err)
				return
			}
			if err := submit(t, c, c.Passes); err != nil {
				t.Errorf("should pass, but: %v", err)
				return
			}
			if !has(c.Passes, rule.path) {
				t.Errorf("what passes has no %s, so that the rule does not judge it", rule.path)
				return
			}
			covered[rule] = true
		})
	}
	for _, rule := range rules {
		if !covered[rule] {
			t.Errorf("no case shows the rule of %s at %s: %s", rule.kind, rule.path, rule.message)
		}
	}
}

// celRules walks the schemas of all definitions.
func celRules(t *testing.T) []celRule {
	t.Helper()
	files, err := fs.Glob(crd.Bases, "bases/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("found %v (%v), want a definition of each kind", files, err)
	}
	var rules []celRule
	for _, file := range files {
		data, err := crd.Bases.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var definition apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &definition); err != nil {
			t.Fatal(err)
		}
		for _, version := range definition.Spec.Versions {
			walk(version.Schema.OpenAPIV3Schema, "", func(path, message string) {
				rules = append(rules, celRule{definition.Spec.Names.Kind, path, message})
			})
		}
	}
	return rules
}

// walk visits every rule with the path of what it judges, lists written as [].
func walk(s *apiextensionsv1.JSONSchemaProps, path string, visit func(path, message string)) {
	for _, rule := range s.XValidations {
		visit(path, rule.Message)
	}
	for name := range s.Properties {
		field := s.Properties[name]
		walk(&field, strings.TrimPrefix(path+"."+name, "."), visit)
	}
	if s.Items != nil {
		walk(s.Items.Schema, path+"[]", visit)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		walk(s.AdditionalProperties.Schema, path+"{}", visit)
	}
	for _, branch := range slices.Concat(s.AllOf, s.AnyOf, s.OneOf) {
		walk(&branch, path, visit)
	}
}

// celCases reads testdata/cel.yaml.
func celCases(t *testing.T) []celCase {
	t.Helper()
	data, err := os.ReadFile("testdata/cel.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var cases []celCase
	for _, words := range []*strings.Replacer{
		strings.NewReplacer("DIRECTION", "ingress", "RULES", "RuleSet", "SELECTORS", "disable"),
		strings.NewReplacer("DIRECTION", "egress", "RULES", "ClusterRuleSet", "SELECTORS", "disable"),
		strings.NewReplacer("DIRECTION", "egress", "RULES", "RuleSet", "SELECTORS", "enable"),
		strings.NewReplacer("DIRECTION", "egress", "RULES", "ClusterRuleSet", "SELECTORS", "enable"),
		strings.NewReplacer("DIRECTION", "egress", "RULES", "RuleSet", "SELECTORS", "drop"),
		strings.NewReplacer("DIRECTION", "egress", "RULES", "ClusterRuleSet", "SELECTORS", "drop"),
	} {
		var all []celCase
		if err := yaml.UnmarshalStrict([]byte(words.Replace(string(data))), &all); err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			seen := slices.ContainsFunc(cases, func(o celCase) bool { return fmt.Sprint(o) == fmt.Sprint(c) })
			if !seen {
				cases = append(cases, c)
			}
		}
	}
	return cases
}

var index = regexp.MustCompile(`\[\d+\]`)

// ruleOf finds the one rule that a case is about.
func ruleOf(t *testing.T, rules []celRule, c celCase) celRule {
	t.Helper()
	path := index.ReplaceAllString(c.At, "[]")
	var found []celRule
	for _, rule := range rules {
		if rule.kind == c.Kind && rule.path == path && strings.HasPrefix(rule.message, c.Message) {
			found = append(found, rule)
		}
	}
	if len(found) != 1 {
		t.Fatalf("the case is about %d rules, want one: %v", len(found), found)
	}
	return found[0]
}

// submit creates an object, or changes the one that is there before; what is wrong is not stored.
func submit(t *testing.T, c celCase, body map[string]any) error {
	t.Helper()
	object := newObject(c.Kind, body)
	if c.Before == nil {
		return cluster.Client.Create(t.Context(), object, client.DryRunAll)
	}
	before := newObject(c.Kind, c.Before)
	if err := cluster.Client.Create(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cluster.Client.Delete(t.Context(), before); err != nil {
			t.Error(err)
		}
	}()
	object.SetResourceVersion(before.GetResourceVersion())
	return cluster.Client.Update(t.Context(), object, client.DryRunAll)
}

func newObject(kind string, body map[string]any) *unstructured.Unstructured {
	object := (&unstructured.Unstructured{Object: body}).DeepCopy()
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	if object.GetName() == "" {
		object.SetName("case")
	}
	if slices.Contains([]string{"L7Policy", "RuleSet", "TrafficInspection"}, kind) {
		object.SetNamespace("default")
	}
	return object
}

// refusedBy tells whether an object was refused for one reason alone.
func refusedBy(err error, at, message string) bool {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || !apierrors.IsInvalid(err) || status.ErrStatus.Details == nil {
		return false
	}
	causes := slices.DeleteFunc(slices.Clone(status.ErrStatus.Details.Causes), func(c metav1.StatusCause) bool {
		// Said beside another fault, and not one itself.
		return c.Field == "<nil>" && strings.Contains(c.Message, "some validation rules were not checked")
	})
	field := at
	if at == "" {
		field = "<nil>"
	}
	return len(causes) == 1 && causes[0].Field == field && strings.HasSuffix(causes[0].Message, message)
}

// has tells whether an object has something at the path of a rule.
func has(value any, path string) bool {
	if path == "" {
		return true
	}
	if rest, ok := strings.CutPrefix(path, "[]"); ok {
		list, _ := value.([]any)
		return slices.ContainsFunc(list, func(item any) bool { return has(item, strings.TrimPrefix(rest, ".")) })
	}
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		end = len(path)
	}
	fields, _ := value.(map[string]any)
	inner, ok := fields[path[:end]]
	return ok && has(inner, strings.TrimPrefix(path[end:], "."))
}
