package manifests

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/config/crd"
)

// kindSchema does with an object what an API server does that has the CustomResourceDefinition of its kind.
type kindSchema struct {
	structural *structuralschema.Structural
	openAPI    validation.SchemaValidator
	rules      *cel.Validator
}

// schemas are those compiled so far, by the path of the definition: functions that compile it once.
var schemas sync.Map

// loadSchema compiles an embedded definition, once.
func loadSchema(definition string) (*kindSchema, error) {
	load, _ := schemas.LoadOrStore(definition, sync.OnceValues(func() (*kindSchema, error) { return compileSchema(definition) }))
	return load.(func() (*kindSchema, error))()
}

func compileSchema(path string) (*kindSchema, error) {
	data, err := crd.Bases.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var definition apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(data, &definition); err != nil {
		return nil, err
	}
	if len(definition.Spec.Versions) != 1 || definition.Spec.Versions[0].Schema == nil {
		return nil, errors.New("it must have one version, with a schema")
	}
	var internal apiextensions.JSONSchemaProps
	v1Props := definition.Spec.Versions[0].Schema.OpenAPIV3Schema
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v1Props, &internal, nil); err != nil {
		return nil, err
	}
	structural, err := structuralschema.NewStructural(&internal)
	if err != nil {
		return nil, fmt.Errorf("its schema is not structural: %w", err)
	}
	openAPI, _, err := validation.NewSchemaValidator(&internal)
	if err != nil {
		return nil, err
	}
	rules := cel.NewValidator(structural, true, celconfig.PerCallLimit)
	if rules == nil {
		return nil, errors.New("its schema has no CEL rules")
	}
	return &kindSchema{structural, openAPI, rules}, nil
}

// applyDefaults sets the schema's defaults in an object.
func (s *kindSchema) applyDefaults(object map[string]any) {
	defaulting.Default(object, s.structural)
}

// validate returns what the schema and, if it finds nothing that would mislead them, its CEL rules refuse.
func (s *kindSchema) validate(object map[string]any) field.ErrorList {
	errs := validation.ValidateCustomResource(nil, object, s.openAPI)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s.structural, object)...)
	sortByField(errs)
	for _, err := range errs {
		switch err.Type {
		case field.ErrorTypeRequired, field.ErrorTypeNotSupported, field.ErrorTypeTypeInvalid, field.ErrorTypeTooLong, field.ErrorTypeTooMany:
			return errs
		}
	}
	byRules, _ := s.rules.Validate(context.Background(), nil, s.structural, object, nil, celconfig.RuntimeCELCostBudget)
	sortByField(byRules)
	return append(errs, byRules...)
}

// sortByField puts errors into an order: they come out of maps, in any.
func sortByField(errs field.ErrorList) {
	slices.SortStableFunc(errs, func(a, b *field.Error) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Error(), b.Error()))
	})
}
