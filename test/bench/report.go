package main

import (
	"fmt"
	"os"
	"strings"
)

// The generated part of the page stands between these lines; the rest is written by hand.
const (
	beginMark = "<!-- begin: written by make bench -->\n"
	endMark   = "<!-- end: written by make bench -->\n"
)

// writePage puts the report into the page.
func writePage(file, report string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), beginMark)
	_, after, okEnd := strings.Cut(rest, endMark)
	if !ok || !okEnd {
		return fmt.Errorf("%s lacks the lines between which the report belongs: %s%s", file, beginMark, endMark)
	}
	return os.WriteFile(file, []byte(before+beginMark+"\n"+report+"\n"+endMark+after), 0o644)
}
