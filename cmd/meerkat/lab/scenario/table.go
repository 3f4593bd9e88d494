package scenario

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// TableOptions of WriteTable.
type TableOptions struct {
	// Width is the terminal's, in columns; 0: as wide as needed.
	Width int
	// Color is for terminals only.
	Color bool
}

const (
	columnGap = 2
	// maxInlineWhy is the longest WHY that gets a column of its own.
	maxInlineWhy = 48
	// minCell is what a column is never made narrower than.
	minCell = 8
)

// cells of a line, in the order of the columns.
const (
	cellMark = iota
	cellStep
	cellFrom
	cellTo
	cellRequest
	cellExpected
	cellGot
	cellBy
	cellMS
	cellWhy
	cellCount
)

// WriteTable writes the table for people, and the summary below it. Where it does not fit into the width, each step gets a heading
// with its name and its ends, and then the widest columns are shortened; but never what says why: that gets lines of its own.
// Steps that name cells are summed up in a matrix.
func (r *Report) WriteTable(w io.Writer, o TableOptions) error {
	t := &table{options: o}
	t.lines = append(t.lines, [cellCount]string{"", "STEP", "FROM", "TO", "REQUEST", "EXPECTED", "GOT", "BY", "MS", "WHY"})
	for _, row := range r.Rows {
		t.lines = append(t.lines, row.cells())
	}
	t.measure(r.Rows)
	var out strings.Builder
	t.line(&out, t.lines[0], bold)
	for i, row := range r.Rows {
		paint := plain
		if !row.Passed {
			paint = red
		}
		if t.grouped && row.First {
			t.heading(&out, row)
		}
		t.line(&out, t.lines[i+1], paint)
		if row.Problem != "" {
			t.note(&out, "✗ "+row.Problem, red)
		}
		if !t.why {
			for _, why := range row.Why {
				t.note(&out, printable(why), dim)
			}
		}
	}
	out.WriteByte('\n')
	if matrix := NewMatrix(r).String(); matrix != "" {
		out.WriteString(matrix + "\n")
	}
	paint := green
	if !r.Passed() {
		paint = red
	}
	t.paint(&out, r.Summary(), paint)
	out.WriteByte('\n')
	_, err := io.WriteString(w, out.String())
	return err
}

func (r *Row) cells() [cellCount]string {
	c := [cellCount]string{
		cellMark: "✓", cellRequest: printable(r.Request), cellExpected: r.Expected, cellGot: printable(r.Got), cellBy: r.by(),
		cellMS: fmt.Sprintf("%.1f", milliseconds(r.Elapsed)), cellWhy: printable(strings.Join(r.Why, "; ")),
	}
	if !r.Passed {
		c[cellMark] = "✗"
	}
	if r.Times > 1 {
		c[cellGot] += fmt.Sprintf(" ×%d", r.Times)
	}
	if r.First {
		c[cellStep], c[cellFrom], c[cellTo] = printable(r.Step), r.From, r.To
	}
	return c
}

// by is who spoke: policies, and the rule.
func (r *Row) by() string {
	s := strings.Join(r.By, ",")
	if r.Rule != "" {
		s += ": " + r.Rule
	}
	return s
}

// table is one table while it is laid out.
type table struct {
	options TableOptions
	lines   [][cellCount]string
	widths  [cellCount]int
	// why tells that WHY has a column; grouped, that STEP, FROM and TO have none, but stand above a step's rows.
	why, grouped bool
}

// measure sets the columns' widths: as wide as their cells where that fits, else the widest ones narrower.
func (t *table) measure(rows []Row) {
	t.why = true
	for _, row := range rows {
		t.why = t.why && width(strings.Join(row.Why, "; ")) <= maxInlineWhy
	}
	for _, line := range t.lines {
		for i, cell := range line {
			t.widths[i] = max(t.widths[i], width(cell))
		}
	}
	t.why = t.why && t.fits()
	t.grouped = !t.fits()
	for !t.fits() {
		widest := cellRequest
		for i := cellRequest; i <= cellBy; i++ {
			if t.widths[i] > t.widths[widest] {
				widest = i
			}
		}
		if t.widths[widest] <= minCell {
			return
		}
		t.widths[widest]--
	}
}

func (t *table) fits() bool { return t.options.Width <= 0 || t.total() <= t.options.Width }

func (t *table) total() int {
	total := -columnGap
	for i := range cellCount {
		if t.shown(i) {
			total += t.widths[i] + columnGap
		}
	}
	return total
}

// shown tells whether a column stands in the table: not WHY when it has lines of its own, nor what is empty everywhere.
func (t *table) shown(i int) bool {
	if i == cellWhy && !t.why || t.grouped && i >= cellStep && i <= cellTo {
		return false
	}
	for _, line := range t.lines[1:] {
		if line[i] != "" {
			return true
		}
	}
	return false
}

func (t *table) line(out *strings.Builder, cells [cellCount]string, paint string) {
	var line strings.Builder
	for i := range cellCount {
		if !t.shown(i) {
			continue
		}
		cell := shorten(cells[i], t.widths[i])
		pad := strings.Repeat(" ", t.widths[i]-width(cell))
		if i == cellMS {
			line.WriteString(pad + cell)
		} else {
			line.WriteString(cell + pad)
		}
		line.WriteString(strings.Repeat(" ", columnGap))
	}
	t.paint(out, strings.TrimRight(line.String(), " "), paint)
	out.WriteByte('\n')
}

// heading writes a step's name and its ends above its rows.
func (t *table) heading(out *strings.Builder, row Row) {
	name := printable(row.Step)
	ends := row.From
	if row.To != "" {
		ends += " → " + row.To
	}
	switch {
	case ends == "":
	case t.options.Width <= 0 || width(name)+columnGap+width(ends) <= t.options.Width:
		name += strings.Repeat(" ", columnGap) + ends
	default:
		t.paint(out, shorten(name, t.options.Width), bold)
		out.WriteByte('\n')
		name = ends
	}
	if t.options.Width > 0 {
		name = shorten(name, t.options.Width)
	}
	t.paint(out, name, bold)
	out.WriteByte('\n')
}

// note writes an indented line below a row, wrapped at words.
func (t *table) note(out *strings.Builder, text, paint string) {
	const indent = "      "
	room := t.options.Width - len(indent)
	line := ""
	flush := func() {
		if line != "" {
			out.WriteString(indent)
			t.paint(out, line, paint)
			out.WriteByte('\n')
		}
	}
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case t.options.Width > 0 && width(line)+1+width(word) > room:
			flush()
			line = "  " + word
		default:
			line += " " + word
		}
	}
	flush()
}

// Terminal colours.
const (
	plain = ""
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	red   = "\x1b[31m"
	green = "\x1b[32m"
	reset = "\x1b[0m"
)

func (t *table) paint(out *strings.Builder, s, paint string) {
	if t.options.Color && paint != plain {
		s = paint + s + reset
	}
	out.WriteString(s)
}

func width(s string) int { return utf8.RuneCountInString(s) }

func shorten(s string, n int) string {
	if width(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// printable shows what a terminal must not get as it is.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}
