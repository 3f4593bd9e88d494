package suggesting

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// longestName is how long a rule's name may be.
const longestName = 63

// called is a name for the rule, by who it is for and the first of its ports.
func (r *rule) called() string {
	who := "several"
	if len(r.peers) == 1 {
		who = r.peers[0].Name
		if at := strings.Index(who, " ("); at > 0 {
			who = who[:at]
		}
		who = who[strings.LastIndexByte(who, '/')+1:]
	}
	way := "from"
	if r.direction == plan.Egress {
		way = "to"
	}
	return fmt.Sprintf("%s-%s-%d", way, who, r.ports[0].number)
}

// unique makes a name that a rule may have, and that none has yet.
func unique(name string, taken map[string]bool) string {
	name = strings.Trim(strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-':
			return c
		case 'A' <= c && c <= 'Z':
			return c - 'A' + 'a'
		}
		return '-'
	}, name), "-")
	if name == "" {
		name = "rule"
	}
	base := strings.TrimRight(name[:min(len(name), longestName-5)], "-")
	if len(name) <= longestName {
		base = name
	}
	name = base
	for n := 2; taken[name]; n++ {
		end := fmt.Sprintf("-%d", n)
		name = strings.TrimRight(base[:min(len(base), longestName-len(end))], "-") + end
	}
	taken[name] = true
	return name
}

// mostExamples is how many requests are told of a rule.
const mostExamples = 5

// notes tells what a rule is made of.
func notes(all []*seen) []string {
	count, denied := 0, 0
	peers := map[string]bool{}
	first, last := all[0].first, all[0].last
	for _, x := range all {
		count += x.count
		denied += x.denied
		peers[x.peer.Name] = true
		if x.first.Before(first) {
			first = x.first
		}
		if x.last.After(last) {
			last = x.last
		}
	}
	who := slices.Sorted(maps.Keys(peers))
	if n := len(who); n > mostExamples {
		who = append(who[:mostExamples], fmt.Sprintf("%d others", n-mostExamples))
	}
	lines := []string{fmt.Sprintf("seen %d times, %s to %s: %s", count, first.UTC().Format("2006-01-02 15:04:05Z"), last.UTC().Format("15:04:05Z"), strings.Join(who, ", "))}
	if denied > 0 {
		lines = append(lines, fmt.Sprintf("%d of them were denied: see that they are meant to be allowed", denied))
	}
	texts := map[string]int{}
	for _, x := range all {
		texts[x.text()] += x.count
	}
	list := slices.SortedFunc(maps.Keys(texts), func(a, b string) int {
		if texts[a] != texts[b] {
			return texts[b] - texts[a]
		}
		return strings.Compare(a, b)
	})
	for i, text := range list {
		if i == mostExamples {
			lines = append(lines, fmt.Sprintf("  and %d others", len(list)-mostExamples))
			break
		}
		lines = append(lines, fmt.Sprintf("  %d x %s", texts[text], text))
	}
	return lines
}
