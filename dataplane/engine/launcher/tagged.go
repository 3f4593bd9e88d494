package launcher

import (
	"bytes"
	"fmt"
	"io"
)

// taggedWriter writes whole lines, each with the name of who said it: in objects of JSON as the member "slot", before others.
type taggedWriter struct {
	tag  string
	to   io.Writer
	line []byte // the beginning of one
}

// longestLine is how long a line may be until it is taken for two, in bytes.
const longestLine = 64 << 10

// Write never fails.
func (t *taggedWriter) Write(p []byte) (int, error) {
	t.line = append(t.line, p...)
	for {
		end := bytes.IndexByte(t.line, '\n')
		if end < 0 && len(t.line) < longestLine {
			return len(p), nil
		}
		if end < 0 {
			end = longestLine - 1
		}
		t.write(bytes.TrimRight(t.line[:end+1], "\n"))
		t.line = append(t.line[:0], t.line[end+1:]...)
	}
}

func (t *taggedWriter) write(line []byte) {
	form := "slot %s: %s\n"
	if rest, ok := bytes.CutPrefix(line, []byte(`{"`)); ok {
		form, line = "{\"slot\":%q,\"%s\n", rest
	}
	_, _ = fmt.Fprintf(t.to, form, t.tag, line)
}
