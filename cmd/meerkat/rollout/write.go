package rollout

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

// widest is how wide a cell is, mostWhy how much of a reason is shown.
const widest, mostWhy = 80, 160

// Write prints the report for a person. Times are in UTC, as in events.
func (r *Report) Write(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s to %s (%s)\n", r.From.UTC().Format("2006-01-02 15:04:05Z"), clock(r.To), short(r.To.Sub(r.From)))
	var nothing []*PolicyReport
	for i := range r.Policies {
		p := &r.Policies[i]
		if p.Count == 0 {
			nothing = append(nothing, p)
			continue
		}
		fmt.Fprintf(b, "\n%s would have denied %s\n", p.Policy, count(p.Count, "request", "requests"))
		p.writeNotes(b)
		if err := writeRequests(b, p.WouldDeny); err != nil {
			return err
		}
		if p.More > 0 {
			fmt.Fprintf(b, "  and %d others, which differ too much to be listed\n", p.More)
		}
	}
	if len(nothing) > 0 {
		fmt.Fprintf(b, "\nWould have denied nothing:\n")
	}
	for _, p := range nothing {
		fmt.Fprintf(b, "  %s\n", p.Policy)
		p.writeNotes(b)
	}
	if len(r.Policies) == 0 {
		fmt.Fprintln(b, "\nNo L7Policy is in mode Audit.")
	}
	b.WriteString(legend(r.Policies))
	_, err := io.WriteString(w, b.String())
	return err
}

// legend explains what stands for parts of paths, where some do.
func legend(policies []PolicyReport) string {
	if slices.ContainsFunc(policies, func(p PolicyReport) bool {
		return slices.ContainsFunc(p.WouldDeny, func(r Request) bool { return r.Generalised })
	}) {
		return "\n{number}, {uuid} and {hex} stand for parts of paths that differ; --exact-paths tells them apart.\n"
	}
	return ""
}

func (p *PolicyReport) writeNotes(b *strings.Builder) {
	if p.From.Equal(p.Since) {
		fmt.Fprintf(b, "    it was changed at %s: evidence begins there", clock(p.From))
		if p.Before > 0 {
			fmt.Fprintf(b, "; %s left out", count(p.Before, "earlier event is", "earlier events are"))
		}
		b.WriteString("\n")
	}
	if p.Denied > 0 {
		fmt.Fprintf(b, "    %d more were denied, on ports that another policy enforces\n", p.Denied)
	}
	if len(p.With) > 0 {
		fmt.Fprintf(b, "    where it governs the same connections, it is enforced together with %s\n", strings.Join(p.With, ", "))
	}
	for _, g := range p.Gaps {
		fmt.Fprintf(b, "    evidence is incomplete: %s\n", launcher.Clean(g.Why, 4*mostWhy))
	}
}

func writeRequests(w io.Writer, requests []Request) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "  COUNT\tCLIENT\tSERVER\tPORT\tREQUEST\tFIRST\tLAST\tWHY")
	for i := range requests {
		r := &requests[i]
		server := r.Server
		if r.Service != "" {
			server += " by " + r.Service
		}
		fmt.Fprintf(t, "  %d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Count, launcher.Clean(r.Client, widest), launcher.Clean(server, widest), r.Port,
			launcher.Clean(r.Request, widest), clock(r.First), clock(r.Last), launcher.Clean(r.Why, mostWhy))
	}
	return t.Flush()
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// short is a duration without parts that nobody wants to know.
func short(d time.Duration) string {
	text := d.Round(time.Second).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
