package flowexport

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of elements into docs/flow-export.md")

const (
	tableFile  = "../../docs/flow-export.md"
	tableBegin = "<!-- elements: written by go test ./dataplane/flowexport -run TestElementTable -update -->\n"
	tableEnd   = "<!-- end of elements -->\n"
)

// The table of elements in the documentation is that of the code.
func TestElementTable(t *testing.T) {
	var table strings.Builder
	table.WriteString("\n| element | number | in records of | meaning |\n|---|---|---|---|\n")
	for _, e := range Elements() {
		number := fmt.Sprint(e.ID)
		switch e.Kind {
		case Reverse:
			number = "29305/" + number
		case Enterprise:
			number = "E/" + number
		case Standard:
		}
		in := e.In
		if in == "" {
			in = "all"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", e.Name, number, in, e.Meaning)
	}
	table.WriteString("\n")
	text, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), tableBegin)
	is, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", tableFile)
	}
	if is == table.String() {
		return
	}
	if !*update {
		t.Fatalf("the table in %s is not current; write it with -update", tableFile)
	}
	if err := os.WriteFile(tableFile, []byte(before+tableBegin+table.String()+tableEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
