package ranking

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

// Write prints policies in columns, with their rules if that is asked for. now is what ages are told by.
func Write(w io.Writer, all []Policy, cost, rules bool, now time.Time) error {
	var total uint64
	for i := range all {
		if all[i].Cost != nil {
			total += all[i].Cost.Packets
		}
	}
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 8, 3, ' ', 0)
	titles := "POLICY\tMODE\tNODES\tRULES\tDENIED\tAUDITED\tLAST"
	if cost {
		titles += "\tCONNECTIONS\tPACKETS\tSHARE\tENGINE RULES\tSHARED WITH"
	}
	fmt.Fprintln(t, titles)
	for i := range all {
		p := &all[i]
		last := "-"
		if !p.Last.IsZero() {
			last = now.Sub(p.Last).Round(time.Second).String() + " ago"
		}
		line := fmt.Sprintf("%s\t%s\t%d\t%d\t%d\t%d\t%s", p.Policy, p.Mode, p.Nodes, p.Rules, p.Denied, p.Audited, last)
		switch {
		case cost && p.Cost == nil:
			line += "\t?\t?\t?\t?\t?"
		case cost:
			line += fmt.Sprintf("\t%d\t%d\t%s\t%d\t%s", p.Cost.Connections, p.Cost.Packets, share(p.Cost.Packets, total), p.Cost.EngineRules, dash(strings.Join(p.Cost.With, ",")))
		}
		fmt.Fprintln(t, line)
		for _, r := range p.ByRule {
			if !rules {
				break
			}
			connections := "-"
			if r.Counted {
				connections = strconv.FormatUint(r.Connections, 10)
			}
			fmt.Fprintf(t, "  %s\t\t\t\t\t\t\t%s\t\t\t\t\n", r.Rule, connections)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	for i := range all {
		if all[i].Unknown != "" {
			if _, err := fmt.Fprintf(w, "%s: ? since %s\n", all[i].Policy, launcher.Clean(all[i].Unknown, 600)); err != nil {
				return err
			}
		}
	}
	return nil
}

func share(of, total uint64) string {
	if total == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*float64(of)/float64(total))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
