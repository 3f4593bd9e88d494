package enginecheck

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

// listener reads what Suricata says while it loads rules. A rule's reasons come before the line that names it.
type listener struct {
	origins []signatures.Origin

	reason   string
	failures []v1alpha1.RuleFailure
	failed   int
	skipped  int
	total    []int // loaded, failed, skipped; nil until it has said so
}

var (
	parseErrorMessage = regexp.MustCompile(`(?s)^error parsing signature ".*" from file \S+ at line (\d+)$`)
	totalMessage      = regexp.MustCompile(`^\d+ rule files processed\. (\d+) rules successfully loaded, (\d+) rules failed, (\d+) rules skipped`)
)

const skippedMessage = "Skipping signature due to missing requirements: "

// maxReason is how much of what Suricata says of one rule is kept, in bytes.
const maxReason = 900

func (l *listener) hear(level, message string) {
	if m := totalMessage.FindStringSubmatch(message); m != nil {
		l.total = nil
		for _, digits := range m[1:] {
			n, _ := strconv.Atoi(digits)
			l.total = append(l.total, n)
		}
		l.reason = ""
		return
	}
	if strings.HasPrefix(message, skippedMessage) {
		l.skipped++
	}
	if level != "Error" {
		return
	}
	m := parseErrorMessage.FindStringSubmatch(message)
	if m == nil {
		if len(l.reason) < maxReason {
			if l.reason != "" {
				l.reason += "; "
			}
			l.reason += launcher.Clean(message, maxReason)
		}
		return
	}
	if l.reason == "" {
		l.reason = "it does not parse"
	}
	l.failed++
	line, _ := strconv.Atoi(m[1])
	if len(l.failures) < signatures.MaxFailures && line >= 1 && line <= len(l.origins) {
		l.failures = append(l.failures, signatures.FailureOf(l.origins[line-1], "the engine refuses it: "+l.reason+remedy(l.reason)))
	}
	l.reason = ""
}

// remedies are what to do about what is said most often.
var remedies = []struct {
	said *regexp.Regexp
	do   string
}{
	{regexp.MustCompile(`unknown rule keyword`), "; it is for another version of the engine, or misspelt: correct it or disable the rule"},
	{regexp.MustCompile(`^Variable "`), "; set it in spec.variables"},
	{regexp.MustCompile(`cannot be used in a signature`), "; correct the protocol or disable the rule"},
	{regexp.MustCompile(``), "; correct it, change it by spec.modify, or disable it"},
}

func remedy(reason string) string {
	for _, r := range remedies {
		if r.said.MatchString(reason) {
			return r.do
		}
	}
	return ""
}

// judge makes the report, unless the numbers do not add up: a rule that nobody counts may be one that nobody looks at.
func (l *listener) judge(built *signatures.Result, cut bool, err error) (*Report, error) {
	rules := built.Counts.Enabled
	if l.total == nil && (l.failed+l.skipped == rules || cut && l.failed > 0 && said(err, "exit status 1")) {
		l.total = []int{0, rules - l.skipped, l.skipped} // when it has loaded none, it says no total
		if l.failed > 0 {
			err = nil // and fails for that reason
		}
	}
	if l.total == nil {
		return nil, fmt.Errorf("the engine ended before it had read the %d rules (%w); it said: %s", rules, orUnknown(err), l.reason)
	}
	r := &Report{Loaded: l.total[0], Failed: l.total[1], Skipped: l.total[2], Failures: l.failures}
	if max(r.Loaded, r.Failed, r.Skipped) > rules || r.Loaded+r.Failed+r.Skipped != rules || l.failed > r.Failed || l.failed < r.Failed && !cut {
		return nil, fmt.Errorf("the engine counts %d rules loaded, %d failed (and names %d) and %d skipped, of %d", r.Loaded, r.Failed, l.failed, r.Skipped, rules)
	}
	if err != nil && r.Failed == 0 && (r.Loaded > 0 || rules == 0) {
		return nil, fmt.Errorf("the engine read the %d rules, but did not start with them (%w); it said: %s", rules, err, l.reason)
	}
	return r, nil
}

// said tells whether a program ended with these words.
func said(err error, words string) bool { return err != nil && err.Error() == words }

func orUnknown(err error) error {
	if err == nil {
		return fmt.Errorf("with status 0")
	}
	return err
}
