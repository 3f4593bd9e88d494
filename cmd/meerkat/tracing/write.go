package tracing

import (
	"fmt"
	"io"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/trace"
)

// WriteOptions say how an answer is written.
type WriteOptions struct {
	// Color is for terminals.
	Color bool
	// Brief leaves the flows out.
	Brief bool
}

// Colours of a terminal.
const (
	bold, red, green, yellow = "1", "31", "32", "33"
)

func (o WriteOptions) paint(code, text string) string {
	if !o.Color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Write prints the answer for a person: a line for each hop, below it the flows, and the verdict in a sentence at the end.
func (a *Answer) Write(w io.Writer, o WriteOptions) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s -> %s, %s (%s, %s -> %s)\n", a.From, a.To, a.Request, a.Protocol, a.Client, a.Server)
	wide := a.widths()
	for _, way := range []string{Request, Response} {
		fmt.Fprintf(b, "\n%s\n", o.paint(bold, strings.ToUpper(way)))
		n := 0
		for i := range a.Hops {
			if h := &a.Hops[i]; h.Way == way {
				n++
				h.write(b, o, n, wide)
			}
		}
	}
	fmt.Fprintf(b, "\n%s\n", o.paint(a.Verdict.color(), a.Verdict.Sentence))
	for _, other := range a.Others {
		at := other.Endpoint.String()
		if other.Pod != "" {
			at += " (Pod " + other.Pod + ")"
		}
		fmt.Fprintf(b, "but at the endpoint %s: %s\n", at, o.paint(other.Verdict.color(), other.Verdict.Sentence))
	}
	if a.Live != nil {
		agrees, code := "as the trace says", green
		if !a.Live.Agrees {
			agrees, code = "NOT as the trace says", red
		}
		fmt.Fprintf(b, "live: %s, %s\n", a.Live.Outcome, o.paint(code, agrees))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (v *Verdict) color() string {
	return map[Result]string{Allowed: green, Audited: yellow, Depends: yellow, Denied: red, Lost: red}[v.Result]
}

// widths are those of the columns that hops and flows have in common.
type widths struct{ node, where, state int }

func (a *Answer) widths() widths {
	wide := widths{node: 1}
	for i := range a.Hops {
		h := &a.Hops[i]
		wide.node, wide.where = max(wide.node, len(h.Node)), max(wide.where, len(h.Where))
		for j := range h.Steps {
			wide.where, wide.state = max(wide.where, len(h.Steps[j].Table)+2), max(wide.state, len(stateOf(&h.Steps[j])))
		}
	}
	return wide
}

func (h *Hop) write(b *strings.Builder, o WriteOptions, n int, wide widths) {
	node := h.Node
	if node == "" {
		node = "-"
	}
	what := h.What
	if h.Stops {
		what = o.paint(red, what)
	}
	fmt.Fprintf(b, "%2d  %-*s  %s%s  %s\n", n, wide.node, node, o.paint(bold, h.Where), strings.Repeat(" ", wide.where-len(h.Where)), what)
	if o.Brief {
		return
	}
	for i := range h.Steps {
		s := &h.Steps[i]
		line := fmt.Sprintf("    %*s  %-*s  %-*s  %s", wide.node, "", wide.where, "  "+s.Table, wide.state, stateOf(s), says(s))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	for i := range h.Connections {
		fmt.Fprintf(b, "    %*s  %-*s  %s\n", wide.node, "", wide.where, "  conntrack", describeEntry(&h.Connections[i]))
	}
}

// stateOf is what connection tracking has just said.
func stateOf(s *trace.Step) string {
	if s.Conntrack == "" {
		return ""
	}
	return "ct " + s.Conntrack
}

// says tells what a flow is for; of one that is not ours, its match and actions.
func says(s *trace.Step) string {
	text := s.What
	if text == "" {
		text = fmt.Sprintf("not Meerkat's: priority=%d,%s actions=%s", s.Priority, s.Match, strings.Join(s.Actions, ","))
	}
	if s.NAT != "" {
		text += " [" + s.NAT + "]"
	}
	return text
}

func describeEntry(c *trace.Tracked) string {
	var parts []string
	if c.Inspected {
		parts = append(parts, fmt.Sprintf("inspected as InspectionID %d", c.InspectionID))
	} else {
		parts = append(parts, "not inspected")
	}
	if c.FailOpen {
		parts = append(parts, "fails open")
	}
	if c.Translated {
		parts = append(parts, "translated")
	}
	return fmt.Sprintf("zone %s: %s; epoch %#x, mark %s, label %s", c.Zone, strings.Join(parts, ", "), c.Epoch, c.Mark, c.Label)
}
