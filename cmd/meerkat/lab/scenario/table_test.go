package scenario_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
)

func exampleReport(failed bool) *scenario.Report {
	r := &scenario.Report{Scenario: "storefront", Took: 4321 * time.Millisecond, Rows: []scenario.Row{
		{
			Step: "through the Service", First: true, From: "shop/client", To: "service/shop/web:80", Request: "GET /public/a", Passed: true,
			Expected: "allow", Got: "answered 200", Elapsed: 1234 * time.Microsecond, Times: 3,
		},
		{
			Step: "keep-alive", First: true, From: "shop/client", To: "pod/shop/web:8080", Request: "GET /public/a", Passed: true,
			Expected: "allow", Got: "answered 200", Elapsed: 900 * time.Microsecond,
		},
		{
			Step: "keep-alive", From: "shop/client", To: "pod/shop/web:8080", Request: "DELETE /admin\x1b[2J", Passed: true,
			Expected: "deny", Got: "denied, reset", Elapsed: 104 * time.Millisecond, By: []string{"shop/storefront"},
			Why: []string{"public-pages: method DELETE is not GET or HEAD, and path /admin is not under /public/", "private: path /admin is not /private"},
		},
		{Step: "apply", First: true, Request: "apply policy2.yaml", Expected: "programmed", Got: "programmed", Passed: true, Elapsed: time.Second},
	}}
	if failed {
		r.Rows[3].Passed, r.Rows[3].Got = false, "error"
		r.Rows[3].Problem = "the policy shop/storefront was not Programmed within 10 s: the engine refused rule 7 since its regular expression is too large"
	}
	return r
}

// matrixReport has cells, one of which went wrong, and one that nothing was tried in.
func matrixReport() *scenario.Report {
	r := exampleReport(true)
	for i, cell := range []scenario.Cell{{Row: "Pod IP", Column: "IPv4"}, {Row: "Pod IP", Column: "IPv6"}, {Row: "Pod IP", Column: "IPv6"}, {Row: "headless", Column: "IPv4"}} {
		r.Rows[i].Cell = cell
	}
	return r
}

func TestTable(t *testing.T) {
	for name, c := range map[string]struct {
		report  *scenario.Report
		options scenario.TableOptions
	}{
		"table-wide":   {exampleReport(false), scenario.TableOptions{}},
		"table-narrow": {exampleReport(true), scenario.TableOptions{Width: 100}},
		"table-tight":  {exampleReport(true), scenario.TableOptions{Width: 60}},
		"table-color":  {exampleReport(true), scenario.TableOptions{Width: 200, Color: true}},
		"table-matrix": {matrixReport(), scenario.TableOptions{}},
		"table-short":  {&scenario.Report{Scenario: "short", Rows: exampleReport(false).Rows[:2]}, scenario.TableOptions{Width: 160}},
	} {
		var out bytes.Buffer
		if err := c.report.WriteTable(&out, c.options); err != nil {
			t.Fatal(err)
		}
		if !c.options.Color && strings.Contains(out.String(), "\x1b") {
			t.Errorf("%s: there is an escape sequence in it", name)
		}
		for line := range strings.SplitSeq(out.String(), "\n") {
			if w := c.options.Width; w > 0 && !c.options.Color && utf8.RuneCountInString(line) > w {
				t.Errorf("%s: %q is wider than %d", name, line, w)
			}
		}
		golden(t, fmt.Sprintf("testdata/%s.out.txt", name), out.String())
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	if err := exampleReport(true).WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Passed            bool
		AsExpected, Total int
		Rows              []struct {
			Request, Problem string
			Milliseconds     float64
		}
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Passed || got.AsExpected != 3 || got.Total != 4 || len(got.Rows) != 4 || got.Rows[0].Milliseconds != 1.234 || got.Rows[3].Problem == "" {
		t.Errorf("got %+v", got)
	}
	out.Reset()
	empty := &scenario.Report{Scenario: "empty"}
	if err := empty.WriteJSON(&out); err != nil || !strings.Contains(out.String(), `"rows": []`) || empty.Passed() {
		t.Errorf("an empty report: %v %s", err, out.String())
	}
}
