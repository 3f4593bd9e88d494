package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a scenario file.
type Fault struct {
	File string
	Line int    // 0 when it is about the whole file
	Path string // "steps[2].probe.expect"
	// Message says what is wrong and what to write instead.
	Message string
}

func (f Fault) String() string {
	where := f.File
	if f.Line > 0 {
		where = fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	if f.Path != "" {
		where += ": " + f.Path
	}
	return where + ": " + f.Message
}

// Faults are all that is wrong with a scenario file, in the order of its lines. They are an error.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// sorted puts them in order. A step that is done for several values has each of its faults once.
func (f Faults) sorted() Faults {
	slices.SortStableFunc(f, func(a, b Fault) int { return a.Line - b.Line })
	seen := map[Fault]bool{}
	return slices.DeleteFunc(f, func(fault Fault) bool {
		again := seen[fault]
		seen[fault] = true
		return again
	})
}
