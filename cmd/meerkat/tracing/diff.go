package tracing

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// WriteDiff prints what is different between two answers: the lines of their hops and flows that only one of them has, with some around them.
func WriteDiff(w io.Writer, before, after *Answer, color bool) error {
	o := WriteOptions{Color: color}
	a, b := before.lines(), after.lines()
	out := &strings.Builder{}
	if slices.Equal(a, b) {
		fmt.Fprintf(out, "no difference: %s\n", after.Verdict.Sentence)
		_, err := io.WriteString(w, out.String())
		return err
	}
	edits := compare(a, b)
	for i, e := range edits {
		switch {
		case e.mark == '-':
			fmt.Fprintln(out, o.paint(red, "- "+e.line))
		case e.mark == '+':
			fmt.Fprintln(out, o.paint(green, "+ "+e.line))
		case near(edits, i):
			fmt.Fprintln(out, "  "+e.line)
		case i > 0 && near(edits, i-1):
			fmt.Fprintln(out, "  ...")
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// lines are what is compared: the text without what is in columns, which would shift.
func (a *Answer) lines() []string {
	all := []string{fmt.Sprintf("%s -> %s, %s (%s, %s -> %s)", a.From, a.To, a.Request, a.Protocol, a.Client, a.Server)}
	for i := range a.Hops {
		h := &a.Hops[i]
		all = append(all, fmt.Sprintf("%s  %s  %s: %s", h.Way, h.Node, h.Where, h.What))
		for j := range h.Steps {
			s := &h.Steps[j]
			all = append(all, strings.Join(strings.Fields("    "+s.Table+"  "+stateOf(s)+"  "+says(s)), " "))
		}
		for j := range h.Connections {
			all = append(all, "conntrack "+describeEntry(&h.Connections[j]))
		}
	}
	all = append(all, a.Verdict.Sentence)
	for _, other := range a.Others {
		all = append(all, fmt.Sprintf("but at the endpoint %s: %s", other.Endpoint, other.Verdict.Sentence))
	}
	return all
}

// edit is a line of one answer or of both.
type edit struct {
	mark rune // ' ', '-', '+'
	line string
}

const around = 1

// near tells of a line that both have, next to one that only one has.
func near(edits []edit, i int) bool {
	for j := max(0, i-around); j <= min(len(edits)-1, i+around); j++ {
		if edits[j].mark != ' ' {
			return true
		}
	}
	return false
}

// compare finds the longest lines in common, as diff(1) does.
func compare(a, b []string) []edit {
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	for i, x := range slices.Backward(a) {
		for j, y := range slices.Backward(b) {
			if x == y {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	var edits []edit
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			edits = append(edits, edit{' ', a[i]})
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || length[i+1][j] >= length[i][j+1]):
			edits = append(edits, edit{'-', a[i]})
			i++
		default:
			edits = append(edits, edit{'+', b[j]})
			j++
		}
	}
	return edits
}
