package scenario

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
)

// Report is what became of a scenario's steps.
type Report struct {
	Scenario string
	Rows     []Row
	Took     time.Duration
}

// Row is what became of one request, or of a step that is none.
type Row struct {
	// Step is the step's name, Index its number from 1, Line where it stands. First marks the first row of a step.
	Step  string `json:"step"`
	Index int    `json:"index"`
	Line  int    `json:"line"`
	First bool   `json:"-"`

	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
	Request string `json:"request"`
	// Expected and Got are words for people; Passed decides. ExpectedBy are the policies that should speak.
	Expected   string   `json:"expected"`
	ExpectedBy []string `json:"expectedBy,omitempty"`
	Got        string   `json:"got"`
	Passed     bool     `json:"passed"`
	// Problem says in a sentence what went otherwise; empty when the row passed.
	Problem string `json:"problem,omitempty"`

	// By are the policies that spoke, Rule and Direction what the event says besides, Why its explanation, rule by rule.
	By        []string `json:"by,omitempty"`
	Rule      string   `json:"rule,omitempty"`
	Direction string   `json:"direction,omitempty"`
	Why       []string `json:"why,omitempty"`

	// Server is the Pod that answered ("namespace/name"); empty when none did.
	Server string `json:"server,omitempty"`
	// Cell is the step's place in the matrix.
	Cell Cell `json:"cell,omitzero"`
	// Elapsed is how long the client waited until it knew.
	Elapsed time.Duration `json:"-"`
	// Times is how many times the step was done.
	Times int `json:"times,omitempty"`

	result traffic.Result
}

// Count gives how many rows did as expected, and how many there are.
func (r *Report) Count() (passed, all int) {
	for _, row := range r.Rows {
		if row.Passed {
			passed++
		}
	}
	return passed, len(r.Rows)
}

// Passed tells whether every row did as expected. A report without rows shows nothing, and has not passed.
func (r *Report) Passed() bool {
	passed, all := r.Count()
	return all > 0 && passed == all
}

// ExitCode is 0 when all did as expected, else 1.
func (r *Report) ExitCode() int {
	if r.Passed() {
		return 0
	}
	return 1
}

// Summary is the report in a line.
func (r *Report) Summary() string {
	passed, all := r.Count()
	took := r.Took.Round(100 * time.Millisecond)
	if r.Passed() {
		return fmt.Sprintf("%s: all %d as expected, in %s", r.Scenario, all, took)
	}
	return fmt.Sprintf("%s: %d of %d NOT as expected, in %s", r.Scenario, all-passed, all, took)
}

// WriteJSON writes the report as one JSON object; times are milliseconds.
func (r *Report) WriteJSON(w io.Writer) error {
	type row struct {
		Row
		Milliseconds float64 `json:"milliseconds"`
		Client       string  `json:"client,omitempty"`
		Error        string  `json:"error,omitempty"`
	}
	passed, all := r.Count()
	out := struct {
		Scenario     string  `json:"scenario"`
		Passed       bool    `json:"passed"`
		AsExpected   int     `json:"asExpected"`
		Total        int     `json:"total"`
		Milliseconds float64 `json:"milliseconds"`
		Rows         []row   `json:"rows"`
	}{r.Scenario, r.Passed(), passed, all, milliseconds(r.Took), []row{}}
	for _, each := range r.Rows {
		client := ""
		if each.result.Local.IsValid() {
			client = each.result.Local.String()
		}
		out.Rows = append(out.Rows, row{Row: each, Milliseconds: milliseconds(each.Elapsed), Client: client, Error: each.result.Error})
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(out)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
