package scenario

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMatrixAsMarkdown(t *testing.T) {
	row := func(way, column string, passed bool) Row {
		return Row{Cell: Cell{Row: way, Column: column}, Passed: passed}
	}
	one := &Report{Rows: []Row{row("Pod IP", "server", true), {Passed: true}, row("Pod IP", "server", true), row("hairpin", "client", true)}}
	other := &Report{Rows: []Row{row("hairpin", "client", false), row("Pod IP", "outside", false)}}
	const want = `| way in | server | client | outside |
| --- | --- | --- | --- |
| Pod IP | yes | - | ✗ 0 of 1 |
| hairpin | - | ✗ 1 of 2 | - |
`
	if diff := cmp.Diff(want, NewMatrix(one, other).Markdown("way in")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
