package signatures

import (
	"strings"
)

// read takes the rules of a file, those that are commented out included, and tells what is neither a rule nor a comment.
func (b *builder) read(index int, f File) {
	n := 0
	for line, text := range logicalLines(string(f.Text)) {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		bare := strings.TrimLeft(text, "# \t")
		enabled := text[0] != '#'
		r, err := parseRule(bare)
		if err != nil {
			if enabled { // else it is a comment
				b.refuse(&b.unread, index, Origin{Source: f.Source, File: f.Name, Line: line}, err.Error())
			}
			continue
		}
		r.origin = Origin{Source: f.Source, File: f.Name, Line: line, GID: r.gid, SID: r.sid}
		r.file, r.group, r.enabled = index, f.Name, enabled
		b.add(r)
		n++
	}
	b.result.Counts.BySource[f.Source] += n
}

// byteOrderMark begins files that some editors write.
const byteOrderMark = "\ufeff"

// logicalLines gives each line with the number at which it begins, from 1. A line that ends with a backslash goes on in the next.
func logicalLines(text string) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		text := strings.TrimPrefix(text, byteOrderMark)
		joined, begun, number := "", 0, 0
		for line := range strings.Lines(text) {
			number++
			if begun == 0 {
				begun = number
			}
			trimmed := strings.TrimRight(line, " \t\r\n\v\f")
			if part, more := strings.CutSuffix(trimmed, `\`); more && len(joined) <= maxRule {
				joined += part + " "
				continue
			}
			if !yield(begun, joined+line) {
				return
			}
			joined, begun = "", 0
		}
		if begun != 0 {
			yield(begun, joined)
		}
	}
}
