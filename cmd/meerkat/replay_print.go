package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
	"github.com/meerkat-dev/meerkat/dataplane/replay"
)

// printer prints verdicts as they come.
type printer struct {
	out, messages io.Writer
	form          string // table, json or jsonl
	changed       int    // verdicts that differ
}

// record is a verdict in JSON; a change of verdicts has a sign.
type record struct {
	Change string `json:"change,omitempty"` // "+" or "-"
	replay.Verdict
}

// verdicts prints all that a revision says.
func (p *printer) verdicts(r *replay.Result) error {
	w := bufio.NewWriter(p.out)
	sum := newSummary()
	next := p.begin(w, "verdicts")
	for v, err := range r.Verdicts() {
		if err != nil {
			return err
		}
		sum.add(&v)
		next(record{"", v})
	}
	return p.end(w, []*replay.Result{r}, sum)
}

// changes prints what differs between two revisions.
func (p *printer) changes(before, after *replay.Result) error {
	w := bufio.NewWriter(p.out)
	sum := newSummary()
	sum.diff = true
	next := p.begin(w, "changes")
	for c, err := range replay.Diff(before.Verdicts(), after.Verdicts()) {
		if err != nil {
			return err
		}
		p.changed++
		sign := "-"
		if c.Added {
			sign = "+"
			sum.added++
		} else {
			sum.gone++
		}
		next(record{sign, c.Verdict})
	}
	return p.end(w, []*replay.Result{before, after}, sum)
}

// begin prints what comes before the first verdict, and gives what prints each.
func (p *printer) begin(w *bufio.Writer, list string) func(record) {
	switch p.form {
	case "jsonl":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return func(r record) { _ = e.Encode(r) }
	case "json":
		fmt.Fprintf(w, "{%q: [", list)
		first := true
		return func(r record) {
			text, err := json.Marshal(r)
			if err != nil {
				return // no verdict holds what JSON cannot
			}
			if !first {
				_ = w.WriteByte(',')
			}
			first = false
			fmt.Fprintf(w, "\n  %s", text)
		}
	}
	capture, first := "", true
	return func(r record) {
		if first || r.Capture != capture {
			if !first {
				fmt.Fprintln(w)
			}
			fmt.Fprintf(w, "%s\n%s%6s  %-26s  %-6s  %-48s  %s\n", r.Capture, indent(r.Change), "PACKET", "TIME (UTC)", "ACTION", "FLOW", "VERDICT")
			capture, first = r.Capture, false
		}
		writeRow(w, r)
	}
}

func indent(change string) string {
	if change == "" {
		return ""
	}
	return "  "
}

// writeRow writes a verdict's line of the table, and below it why a policy denies.
func writeRow(w io.Writer, r record) {
	packet := "end"
	if r.Packet > 0 {
		packet = fmt.Sprint(r.Packet)
	}
	sign := r.Change
	if sign != "" {
		sign += " "
	}
	flow := r.Flow()
	if r.Application != "" && r.Application != "failed" {
		flow += " " + r.Application
	}
	fmt.Fprintf(w, "%s%6s  %-26s  %-6s  %-48s  %s\n", sign, packet, r.Time.Format("2006-01-02 15:04:05.000000"), r.Action, flow, said(&r.Verdict))
	if r.Policy != nil && r.Action != replay.Allow {
		for _, why := range r.Policy.Why {
			fmt.Fprintf(w, "%s%8s%s\n", indent(r.Change), "", launcher.Clean(why, 400))
		}
	}
}

// said is what the signature or the policies say, in a line.
func said(v *replay.Verdict) string {
	if s := v.Signature; s != nil {
		text := fmt.Sprintf("%d:%d:%d %s", s.GID, s.SID, s.Rev, s.Message)
		if s.Category != "" {
			return fmt.Sprintf("%s [%s, severity %d]", text, s.Category, s.Severity)
		}
		return fmt.Sprintf("%s [severity %d]", text, s.Severity)
	}
	p := v.Policy
	by := p.Rule
	if by == "" {
		by = strings.Join(p.Policies, ", ")
	}
	what := launcher.Clean(p.Request, 200)
	if p.Layer == 4 {
		what = "the connection"
	}
	if what != "" {
		what += " — "
	}
	return fmt.Sprintf("%s%s (%s)", what, by, strings.ToLower(string(p.Direction)))
}

// summary counts verdicts.
type summary struct {
	Verdicts   int                       `json:"verdicts"`
	Actions    map[replay.Action]int     `json:"actions"`
	Severities map[int]int               `json:"severities,omitempty"`
	Signatures map[string]*signatureSums `json:"signatures,omitempty"` // by "gid:sid"

	diff        bool
	added, gone int
}

// signatureSums counts one signature's verdicts.
type signatureSums struct {
	Message  string `json:"message"`
	Severity int    `json:"severity"`
	Alerts   int    `json:"alerts"`
	Drops    int    `json:"drops"`

	gid, sid uint32
}

func newSummary() *summary {
	return &summary{Actions: map[replay.Action]int{}, Severities: map[int]int{}, Signatures: map[string]*signatureSums{}}
}

func (s *summary) add(v *replay.Verdict) {
	s.Verdicts++
	s.Actions[v.Action]++
	if v.Signature == nil {
		return
	}
	s.Severities[v.Signature.Severity]++
	key := fmt.Sprintf("%d:%d", v.Signature.GID, v.Signature.SID)
	sums := s.Signatures[key]
	if sums == nil {
		sums = &signatureSums{Message: v.Signature.Message, Severity: v.Signature.Severity, gid: v.Signature.GID, sid: v.Signature.SID}
		s.Signatures[key] = sums
	}
	if v.Action == replay.Drop {
		sums.Drops++
	} else {
		sums.Alerts++
	}
}

// end prints the summary, and what the engine said.
func (p *printer) end(w *bufio.Writer, results []*replay.Result, s *summary) error {
	switch p.form {
	case "jsonl":
		writeReports(p.messages, results, s.diff)
	case "json":
		var tail []byte
		var err error
		if s.diff {
			tail, err = json.MarshalIndent(map[string]any{"added": s.added, "gone": s.gone, "before": results[0].Reports, "after": results[1].Reports}, "", "  ")
		} else {
			tail, err = json.MarshalIndent(map[string]any{"summary": s, "captures": results[0].Reports}, "", "  ")
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "\n],%s\n", tail[1:])
	default:
		if p.changed > 0 || s.Verdicts > 0 {
			fmt.Fprintln(w)
		}
		if err := s.writeSignatures(w); err != nil {
			return err
		}
		writeReports(w, results, s.diff)
		fmt.Fprintln(w, s.String())
	}
	return w.Flush()
}

// writeSignatures writes a table of signatures, the most severe first.
func (s *summary) writeSignatures(w io.Writer) error {
	if len(s.Signatures) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SIGNATURE\tSEVERITY\tALERTS\tDROPS\tMESSAGE")
	all := slices.SortedFunc(maps.Values(s.Signatures), func(a, b *signatureSums) int {
		return cmp.Or(a.Severity-b.Severity, (b.Alerts+b.Drops)-(a.Alerts+a.Drops), int(int64(a.sid)-int64(b.sid)), int(int64(a.gid)-int64(b.gid)))
	})
	for _, x := range all {
		fmt.Fprintf(t, "%d:%d\t%d\t%d\t%d\t%s\n", x.gid, x.sid, x.Severity, x.Alerts, x.Drops, x.Message)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

// writeReports says how each capture was read, and by how many rules.
func writeReports(w io.Writer, results []*replay.Result, diff bool) {
	for i, r := range results {
		revision := ""
		if diff {
			revision = [...]string{"before: ", "after: "}[i]
		}
		for _, c := range r.Reports {
			fmt.Fprintf(w, "%s%s: %s read, %d that could not be decoded; %s loaded, %d refused, %d skipped\n", revision, c.Capture,
				count(c.Packets, "packet"), c.Invalid, count(uint64(c.Loaded), "rule"), c.Failed, c.Skipped)
			for _, name := range slices.Sorted(maps.Keys(c.Shortages)) {
				fmt.Fprintf(w, "  the engine had no room: %s %d\n", name, c.Shortages[name])
			}
			for _, f := range c.FailedRules {
				fmt.Fprintf(w, "  refused: sid %d: %s\n", f.SID, f.Reason)
			}
			for _, text := range slices.Concat(c.Warnings, c.Notes) {
				fmt.Fprintf(w, "  %s\n", text)
			}
		}
	}
}

// String is the summary's last line.
func (s *summary) String() string {
	if s.diff {
		if s.added+s.gone == 0 {
			return "no verdict differs"
		}
		return fmt.Sprintf("%s new (+), %d gone (-)", count(uint64(s.added), "verdict"), s.gone)
	}
	var parts []string
	for _, action := range []replay.Action{replay.Alert, replay.Drop, replay.Allow, replay.Audit, replay.Deny} {
		if n := s.Actions[action]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, action))
		}
	}
	text := count(uint64(s.Verdicts), "verdict")
	if len(parts) > 0 {
		text += ": "
	}
	if len(s.Signatures) > 0 {
		text += strings.Join(parts, ", ") + fmt.Sprintf("; %s matched, ", count(uint64(len(s.Signatures)), "signature"))
		parts = nil
		for _, severity := range slices.Sorted(maps.Keys(s.Severities)) {
			parts = append(parts, fmt.Sprintf("%d of severity %d", s.Severities[severity], severity))
		}
	}
	return text + strings.Join(parts, ", ")
}

func count(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
