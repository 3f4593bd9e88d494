package rollout

import (
	"fmt"
	"io"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

// Write prints the evidence for a person, and ends with what to do. command is the one that enforces the policy.
func (o *Promotion) Write(w io.Writer, command string) error {
	b := &strings.Builder{}
	e := &o.Evidence
	fmt.Fprintf(b, "%s, in mode %s\n\n", o.Policy, o.Mode)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(b, "  %-12s  %s\n", name, launcher.Clean(fmt.Sprintf(format, args...), 4*mostWhy))
	}
	if e.Since.IsZero() {
		line("unchanged", "nobody knows since when")
	} else {
		line("unchanged", "for %s at least, since %s", short(o.To.Sub(e.Since)), e.Since.UTC().Format("2006-01-02 15:04:05Z"))
	}
	line("evidence", "of the last %s, %s to %s", short(o.Covers), clock(e.From), clock(o.To))
	switch {
	case o.Traffic.NotAsked:
		line("traffic", "was not asked for")
	case o.Traffic.Unknown != "":
		line("traffic", "is not known: %s", o.Traffic.Unknown)
	default:
		line("traffic", "%s, since the nodes have its flows", count(int(min(o.Traffic.Connections, 1<<50)), "connection that it has judged", "connections that it has judged")) //nolint:gosec // bounded
	}
	if o.Nodes != nil {
		line("in force", "on %d of %d nodes with Pods of it", o.Nodes.Programmed, o.Nodes.Desired)
	}
	line("would deny", "%s", count(e.Count, "request", "requests"))
	if e.Denied > 0 {
		line("denied", "%d, on ports that another policy enforces", e.Denied)
	}
	if len(e.With) > 0 {
		line("with it", "%s: enforced too, where they govern the same connections", strings.Join(e.With, ", "))
	}
	if len(e.WouldDeny) > 0 {
		fmt.Fprintln(b)
		if err := writeRequests(b, e.WouldDeny); err != nil {
			return err
		}
		b.WriteString(legend([]PolicyReport{*e}))
	}
	if len(o.Against) > 0 {
		fmt.Fprintf(b, "\nNot yet:\n")
		for _, why := range o.Against {
			fmt.Fprintf(b, "  - %s\n", launcher.Clean(why, 4*mostWhy))
		}
		fmt.Fprintf(b, "\nTo enforce it all the same:\n")
	} else {
		fmt.Fprintf(b, "\nNothing stands against it. To enforce it, as long as nobody changes it:\n")
	}
	fmt.Fprintf(b, "\n%s\n", command)
	_, err := io.WriteString(w, b.String())
	return err
}
