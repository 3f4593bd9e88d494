package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// Matrix sums up, of one report or several, the steps that name a cell: how many of each cell's requests did as expected.
type Matrix struct {
	rows, columns []string
	cells         map[Cell]tally
}

type tally struct{ passed, all int }

// NewMatrix gathers the cells of reports, rows and columns in the order in which they come.
func NewMatrix(reports ...*Report) *Matrix {
	m := &Matrix{cells: map[Cell]tally{}}
	for _, report := range reports {
		for _, row := range report.Rows {
			m.add(row)
		}
	}
	return m
}

func (m *Matrix) add(row Row) {
	if row.Cell == (Cell{}) {
		return
	}
	if !slices.Contains(m.rows, row.Cell.Row) {
		m.rows = append(m.rows, row.Cell.Row)
	}
	if !slices.Contains(m.columns, row.Cell.Column) {
		m.columns = append(m.columns, row.Cell.Column)
	}
	t := m.cells[row.Cell]
	t.all++
	if row.Passed {
		t.passed++
	}
	m.cells[row.Cell] = t
}

// Count gives how many cells did as expected in every request, and how many there are; a cell that nothing was tried in counts.
func (m *Matrix) Count() (passed, all int) {
	for _, t := range m.cells {
		if t.passed == t.all {
			passed++
		}
	}
	return passed, len(m.rows) * len(m.columns)
}

// String is the matrix as a table, empty when there are no cells. A cell is how many requests did as expected, of how many.
func (m *Matrix) String() string {
	if len(m.cells) == 0 {
		return ""
	}
	lines := [][]string{append([]string{""}, m.columns...)}
	for _, row := range m.rows {
		line := []string{row}
		for _, column := range m.columns {
			line = append(line, m.cells[Cell{row, column}].String())
		}
		lines = append(lines, line)
	}
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, text := range line {
			widths[i] = max(widths[i], width(text))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		for i, cell := range line {
			line[i] += strings.Repeat(" ", widths[i]-width(cell)+columnGap)
		}
		b.WriteString(strings.TrimRight(strings.Join(line, ""), " ") + "\n")
	}
	passed, all := m.Count()
	fmt.Fprintf(&b, "%d of %d cells as expected\n", passed, all)
	return b.String()
}

// Markdown is the matrix as a table in Markdown, whose first column is headed by corner. A cell says "yes" when all of its requests did as
// expected, which is the same in every run however often a step was repeated, and else how many did.
func (m *Matrix) Markdown(corner string) string {
	lines := [][]string{append([]string{corner}, m.columns...), make([]string, len(m.columns)+1)}
	for i := range lines[1] {
		lines[1][i] = "---"
	}
	for _, row := range m.rows {
		line := []string{row}
		for _, column := range m.columns {
			cell := m.cells[Cell{row, column}]
			text := cell.String()
			if cell.all > 0 && cell.passed == cell.all {
				text = "yes"
			}
			line = append(line, text)
		}
		lines = append(lines, line)
	}
	var b strings.Builder
	for _, line := range lines {
		b.WriteString("| " + strings.Join(line, " | ") + " |\n")
	}
	return b.String()
}

func (t tally) String() string {
	switch {
	case t.all == 0:
		return "-"
	case t.passed == t.all:
		return fmt.Sprintf("✓ %d", t.all)
	}
	return fmt.Sprintf("✗ %d of %d", t.passed, t.all)
}
