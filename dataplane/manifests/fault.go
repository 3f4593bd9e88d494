package manifests

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Fault is one thing that is wrong with what was read.
type Fault struct {
	// Origin is where it stands; the line is the field's own where that is known.
	Origin Origin
	// Object is the object's kind and name ("L7Policy shop/storefront"); empty when the text is no object.
	Object string
	// Path is the field ("spec.ingress[0].l7[1].http.path.regex"); empty when the fault is the whole object's.
	Path string
	// Value is what stands there, quoted and shortened; empty when nothing does, or when it would not help.
	Value string
	// Why says what is wrong and, after a semicolon, what to do.
	Why string
}

// Error is the whole fault in one line of printable text.
func (f Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.Origin.String())
	for _, part := range []string{f.Object, f.Path, f.Value, f.Why} {
		if part != "" {
			b.WriteString(": ")
			b.WriteString(part)
		}
	}
	return b.String()
}

// FaultOf gives an error of validation, such as ValidateL7Policy's, in the words of a Fault; it has no Origin and no Object.
func FaultOf(err *field.Error) Fault {
	return Fault{Path: err.Field, Value: shown(valueOf(err)), Why: reason(err)}
}

// valueOf is the value that an error is about, unless it has none or a placeholder.
func valueOf(err *field.Error) any {
	if tooFew(err) {
		return nil
	}
	switch err.Type {
	case field.ErrorTypeRequired, field.ErrorTypeForbidden, field.ErrorTypeTooLong:
		return nil
	}
	return err.BadValue
}

// Faults is an error that holds everything that is wrong, in the order of the files and lines.
type Faults []Fault

// maxFaultsPrinted bounds what Error prints: a file of another program's YAML is wrong in every line.
const maxFaultsPrinted = 100

// Error has one line for each fault.
func (f Faults) Error() string {
	lines := make([]string, 0, min(len(f), maxFaultsPrinted)+1)
	for i, fault := range f {
		if i == maxFaultsPrinted {
			lines = append(lines, fmt.Sprintf("and %d more", len(f)-i))
			break
		}
		lines = append(lines, fault.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the faults one by one, for errors.As.
func (f Faults) Unwrap() []error {
	errs := make([]error, len(f))
	for i := range f {
		errs[i] = f[i]
	}
	return errs
}

// sorted orders the faults of one file by line, and those of one line as they were found, and drops repetitions.
func (f Faults) sorted() Faults {
	slices.SortStableFunc(f, func(a, b Fault) int { return cmp.Compare(a.Origin.Line, b.Origin.Line) })
	seen := map[Fault]bool{}
	return slices.DeleteFunc(f, func(fault Fault) bool {
		repeated := seen[fault]
		seen[fault] = true
		return repeated
	})
}

// maxValueShown is how much of a value a message quotes, in bytes.
const maxValueShown = 64

// shown is a value as messages quote it: strings in quotes with what is not printable escaped, and long ones cut.
// Maps and lists are not shown; the path says enough.
func shown(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return quoted(v)
	case abridged:
		return v.String()
	case bool, int, int32, int64, float64:
		return fmt.Sprint(v)
	default:
		return ""
	}
}

// quoted is a string in quotes, cut when it is long.
func quoted(s string) string {
	if len(s) <= maxValueShown {
		return strconv.Quote(s)
	}
	cut := maxValueShown
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… (%d bytes)", strconv.Quote(s[:cut]), len(s))
}

// bare is a name as messages print it: as it is when it looks like a name, and quoted when not.
func bare(s string) string {
	if len(s) > 253 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }) {
		return quoted(s)
	}
	return s
}
