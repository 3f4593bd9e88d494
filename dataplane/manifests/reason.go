package manifests

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// reason is what a validation error says is wrong, in our own messages' form: a predicate and, after a semicolon, a remedy.
func reason(err *field.Error) string {
	detail := strings.TrimPrefix(err.Detail, err.Field+" in body ")
	if before, _, found := strings.Cut(detail, ", regex used for validation"); found {
		detail = before + ")"
	}
	switch {
	case detail == "name or generateName is required", detail == "" && err.Type == field.ErrorTypeRequired:
		return "is required; add it"
	case err.Type == field.ErrorTypeDuplicate && detail == "":
		return "stands twice in the list; remove one of them"
	case tooFew(err):
		return "is an empty list; leave it out to allow everything of its kind, or give it items"
	case err.BadValue == "" && (strings.HasPrefix(detail, "should match") || err.Type == field.ErrorTypeNotSupported):
		return "is empty; give it a value, or leave it out"
	case err.Type == field.ErrorTypeNotSupported:
		return "is none of the values that the field can have; write one of " + strings.TrimPrefix(detail, "supported values: ")
	case err.Type == field.ErrorTypeTooLong:
		return "is too long (" + detail + "); shorten it"
	case err.Type == field.ErrorTypeTooMany && (err.Field == "spec.ingress" || err.Field == "spec.egress"):
		return detail + "; split the policy into several, which add up"
	case err.Type == field.ErrorTypeTooMany:
		return detail + "; shorten the list, or split what it belongs to"
	case detail == "":
		detail = strings.ToLower(err.Type.String())
	}
	if !strings.Contains(detail, "; ") && !strings.Contains(detail, ": ") { // CEL rules have their remedy after a colon
		detail += "; " + remedies(err.Type)
	}
	return detail
}

// tooFew tells an empty list that must have items, which has no error type of its own.
func tooFew(err *field.Error) bool {
	return err.Type == field.ErrorTypeTooFew || strings.Contains(err.Detail, "should have at least 1 items")
}

// remedies are for errors that tell none.
func remedies(t field.ErrorType) string {
	switch t {
	case field.ErrorTypeRequired:
		return "add it"
	case field.ErrorTypeForbidden:
		return "remove it"
	default:
		return "correct it"
	}
}

// invalid is a field.Error with a sentence of ours. A long value is cut, so that no message carries one of any size.
func invalid(path *field.Path, value any, format string, args ...any) *field.Error {
	if text, ok := value.(string); ok && len(text) > maxValueShown {
		value = abridged(quoted(text))
	}
	return field.Invalid(path, value, fmt.Sprintf(format, args...))
}

// abridged is a value that was quoted and cut already.
type abridged string

// String is what field.Error prints.
func (a abridged) String() string { return string(a) }
