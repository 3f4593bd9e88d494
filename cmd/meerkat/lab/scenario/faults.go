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

func (f Faults) sorted() Faults {
	slices.SortStableFunc(f, func(a, b Fault) int { return a.Line - b.Line })
	return f
}

// closest gives the name that was probably meant, or "".
func closest(name string, names []string) string {
	best, least := "", min(3, max(2, len(name)/3+1)) // one letter in a short name, two in a long one
	for _, n := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d < least {
			best, least = n, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
