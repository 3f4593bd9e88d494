package suricatarules

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
)

// Render returns the rule files for all rule sets, in the order of their IDs. A rule set that does not compile gets no rules,
// so that everything of it is dropped, and is named in the error; the files are whole nevertheless.
func Render(sets []RuleSet) (Files, error) {
	sets = slices.SortedFunc(slices.Values(sets), func(a, b RuleSet) int { return cmp.Compare(a.ID, b.ID) })
	all := []Compiled{common(sets), probe()}
	var errs []error
	for i, rs := range sets {
		if i > 0 && sets[i-1].ID == rs.ID {
			errs = append(errs, fmt.Errorf("rule set %d: two rule sets have this InspectionID; the second gets no rules", rs.ID))
			continue
		}
		c, err := Compile(rs)
		if err != nil {
			errs = append(errs, fmt.Errorf("rule set %d: %w", rs.ID, err))
		}
		all = append(all, c)
	}
	all = append(all, unruled())
	return files(all), errors.Join(errs...)
}

func files(all []Compiled) Files {
	f := Files{Index: map[uint32]Meaning{}}
	write := func(rules []Rule) []byte {
		var b bytes.Buffer
		for _, r := range rules {
			fmt.Fprintln(&b, r.Text)
			f.Index[r.SID] = r.Meaning
			f.Count++
		}
		return b.Bytes()
	}
	var firewall, detect []Rule
	for _, c := range all {
		firewall = append(firewall, c.Firewall...)
		detect = append(detect, c.Detect...)
	}
	f.Firewall, f.Detect = write(firewall), write(detect)
	return f
}

// probe lets the agent's probes through, which tell it whether the engine inspects.
func probe() Compiled {
	return Compiled{Firewall: []Rule{newRule(ledger.ProbeVLAN<<16, "accept:packet udp:all",
		fmt.Sprintf("vlan.id:%d; ", ledger.ProbeVLAN),
		Meaning{Kind: Probe, RuleSet: ledger.ProbeVLAN, Detail: "lets the agent's in-band probes through"})}}
}
