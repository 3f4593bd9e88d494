package crd_test

import (
	"io/fs"
	"slices"
	"strings"
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
	for _, file := range files(t) {
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
	rules := 0
	for _, file := range files(t) {
		walk(read(t, file).Spec.Versions[0].Schema.OpenAPIV3Schema, func(s *apiextensionsv1.JSONSchemaProps) {
			for _, rule := range s.XValidations {
				rules++
				if !strings.ContainsAny(rule.Message, ":;") {
					t.Errorf("%s: the message %q of the rule %s has no remedy after a colon", file, rule.Message, rule.Rule)
				}
			}
		})
	}
	if rules < 30 {
		t.Errorf("found %d CEL rules; are the markers still read?", rules)
	}
}

// TestFieldsHaveDescriptions keeps `kubectl explain` complete, and every list, map and free string bounded.
func TestFieldsHaveDescriptions(t *testing.T) {
	for _, file := range files(t) {
		t.Run(file, func(t *testing.T) {
			version := read(t, file).Spec.Versions[0]
			for _, column := range version.AdditionalPrinterColumns {
				if column.Description == "" && column.Name != "Age" {
					t.Errorf("the column %s has no description", column.Name)
				}
			}
			top := version.Schema.OpenAPIV3Schema
			if top.Description == "" {
				t.Error("the kind has no description")
			}
			for name, field := range top.Properties {
				if !slices.Contains([]string{"apiVersion", "kind", "metadata"}, name) {
					checkField(t, name, &field)
				}
			}
		})
	}
}

// checkField looks at a field of ours and at all within it.
func checkField(t *testing.T, path string, s *apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	if s.Description == "" {
		t.Errorf("%s has no description", path)
	}
	if strings.Contains(strings.ReplaceAll(s.Description, "\nExample", ""), "\n") {
		t.Errorf("the description of %s has several lines, which kubectl explain wraps once more", path)
	}
	switch {
	case s.Type == "array" && s.MaxItems == nil:
		t.Errorf("the list %s has no MaxItems", path)
	case s.Type == "object" && s.AdditionalProperties != nil && s.MaxProperties == nil:
		t.Errorf("the map %s has no MaxProperties", path)
	}
	if s.Items != nil && s.Items.Schema.Type == "string" {
		checkString(t, path+"[]", s.Items.Schema)
	}
	checkString(t, path, s)
	if ofKubernetes(path) {
		return
	}
	for name, field := range s.Properties {
		checkField(t, path+"."+name, &field)
	}
	if s.Items != nil {
		for name, field := range s.Items.Schema.Properties {
			checkField(t, path+"[]."+name, &field)
		}
	}
}

func checkString(t *testing.T, path string, s *apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	timeOrDuration := s.Format == "date-time" || strings.HasSuffix(path, "Timeout")
	if s.Type == "string" && s.MaxLength == nil && s.Enum == nil && !timeOrDuration {
		t.Errorf("the string %s has neither MaxLength nor Enum", path)
	}
}

// ofKubernetes tells fields with types of Kubernetes' own, whose insides are not ours to describe and limit.
func ofKubernetes(path string) bool {
	name := path[strings.LastIndexByte(path, '.')+1:]
	return slices.Contains([]string{"podSelector", "namespaceSelector", "conditions", "resources", "tolerations", "imagePullSecrets"}, name)
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

// files are the definitions.
func files(t *testing.T) []string {
	t.Helper()
	found, err := fs.Glob(crd.Bases, "bases/*.yaml")
	if err != nil || len(found) < 4 {
		t.Fatalf("found the definitions %v (%v); run: make generate", found, err)
	}
	return found
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
