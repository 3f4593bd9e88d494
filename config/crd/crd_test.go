package crd_test

import (
	"io/fs"
	"slices"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/config/crd"
)

// TestAPIServerAcceptsDefinitions runs the checks that an API server makes when a definition is applied. They include the
// estimated cost of every CEL rule, which depends on the limits of all lists and strings around it.
func TestAPIServerAcceptsDefinitions(t *testing.T) {
	files, err := fs.Glob(crd.Bases, "bases/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no definitions found (%v); run: make generate", err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			definition := read(t, file)
			var internal apiextensions.CustomResourceDefinition
			if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(definition, &internal, nil); err != nil {
				t.Fatal(err)
			}
			// The server fills this in before it validates.
			internal.Status.StoredVersions = []string{internal.Spec.Versions[0].Name}
			for _, err := range validation.ValidateCustomResourceDefinition(t.Context(), &internal) {
				t.Error(err)
			}
		})
	}
}

// TestCELRulesHaveMessages holds every CEL rule to a message that tells the remedy: "failed rule: …" helps nobody.
func TestCELRulesHaveMessages(t *testing.T) {
	definition := read(t, crd.L7Policy)
	rules := 0
	walk(definition.Spec.Versions[0].Schema.OpenAPIV3Schema, func(s *apiextensionsv1.JSONSchemaProps) {
		for _, rule := range s.XValidations {
			rules++
			if rule.Message == "" {
				t.Errorf("the rule %s has no message", rule.Rule)
			}
		}
	})
	if rules < 15 {
		t.Errorf("found %d CEL rules; are the markers still read?", rules)
	}
}

// TestFieldsHaveDescriptions keeps `kubectl explain` complete, and every list and free string bounded.
func TestFieldsHaveDescriptions(t *testing.T) {
	spec := read(t, crd.L7Policy).Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	walk(&spec, func(s *apiextensionsv1.JSONSchemaProps) {
		for name, field := range s.Properties {
			if field.Description == "" {
				t.Errorf("the field %s has no description", name)
			}
			if field.Type == "array" && field.MaxItems == nil && !ofLabelSelector(name) {
				t.Errorf("the list %s has no MaxItems", name)
			}
			if field.Type == "string" && field.MaxLength == nil && field.Enum == nil && !ofLabelSelector(name) {
				t.Errorf("the string %s has neither MaxLength nor Enum", name)
			}
		}
	})
}

// TestProtocolEnum keeps the schema's list of application protocols and the Go one the same.
func TestProtocolEnum(t *testing.T) {
	spec := read(t, crd.L7Policy).Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	var enum []string
	for _, value := range spec.Properties["ingress"].Items.Schema.Properties["l7"].Items.Schema.Properties["protocol"].Enum {
		var name string
		if err := yaml.Unmarshal(value.Raw, &name); err != nil {
			t.Fatal(err)
		}
		enum = append(enum, name)
	}
	slices.Sort(enum)
	if want := v1alpha1.AppProtocols(); !slices.Equal(enum, want) {
		t.Errorf("the schema's protocols are %v, AppProtocols has %v", enum, want)
	}
}

// ofLabelSelector tells the fields of Kubernetes' own LabelSelector, whose limits are not ours to set.
func ofLabelSelector(field string) bool {
	return slices.Contains([]string{"matchExpressions", "values", "key", "operator"}, field)
}

func read(t *testing.T, file string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	data, err := crd.Bases.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var definition apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(data, &definition); err != nil {
		t.Fatal(err)
	}
	return &definition
}

func walk(s *apiextensionsv1.JSONSchemaProps, visit func(*apiextensionsv1.JSONSchemaProps)) {
	visit(s)
	for name := range s.Properties {
		field := s.Properties[name]
		walk(&field, visit)
	}
	if s.Items != nil && s.Items.Schema != nil {
		walk(s.Items.Schema, visit)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		walk(s.AdditionalProperties.Schema, visit)
	}
}
