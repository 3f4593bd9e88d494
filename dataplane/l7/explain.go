package l7

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Reason says why one entry does not allow a request.
type Reason struct {
	Policy string `json:"policy"`
	Rule   string `json:"rule"`
	// Why is a clause: "path /admin is not under /public/".
	Why string `json:"why"`
	// Wants is a clause about the rule, of what it asks for instead: "whose path is /public/*"; empty without a rule.
	Wants string `json:"wants,omitempty"`
	// satisfied counts the conditions that the request satisfied before it failed this one, failed all those that it fails.
	satisfied, failed int
}

// String returns "rule: why".
func (r Reason) String() string {
	if r.Rule == "" {
		return r.Why
	}
	return r.Rule + ": " + r.Why
}

// Explain says, entry by entry and in their order, why a request is not allowed. It returns nil when it is allowed. Without
// entries, or when no entry could ever allow the request, it returns one Reason without a rule.
func Explain(entries []Entry, r Request) []Reason {
	if why := never(r); why != "" {
		return []Reason{{Why: why}}
	}
	if len(entries) == 0 {
		return []Reason{{Why: "nothing is allowed"}}
	}
	reasons := make([]Reason, 0, len(entries))
	for _, e := range entries {
		satisfied, why := e.obstacle(r)
		if why == "" {
			return nil
		}
		reasons = append(reasons, Reason{Policy: e.Policy, Rule: e.Rule, Why: why, Wants: e.wants(satisfied), satisfied: satisfied, failed: e.failures(r)})
	}
	return reasons
}

// Nearest returns the Reason of the entry that comes nearest to allowing the request: the one that it fails latest, of several the one that
// it fails in the fewest conditions, and of these the first. It is the zero Reason when there are none.
func Nearest(reasons []Reason) Reason {
	if len(reasons) == 0 {
		return Reason{}
	}
	return slices.MaxFunc(reasons, func(a, b Reason) int { return cmp.Or(a.satisfied-b.satisfied, b.failed-a.failed) })
}

// failures counts the conditions that r does not satisfy.
func (e Entry) failures(r Request) (n int) {
	for _, condition := range e.conditions() {
		if condition(r) != "" {
			n++
		}
	}
	return n
}

// not says what a path that does not satisfy m is not.
func (m StringMatch) not() string {
	switch {
	case m.Prefix != "":
		return "is not under " + m.Prefix
	case m.Regex != "":
		return "does not match " + m.Regex
	default:
		return "is not " + m.Exact
	}
}

// not says what is missing from fields to satisfy m.
func (m HeaderMatch) not(fields []Header) string {
	i := slices.IndexFunc(fields, func(f Header) bool { return strings.EqualFold(f.Name, m.Name) })
	switch {
	case i < 0:
		return "no header " + m.Name
	case m.Regex != "":
		return "header " + m.Name + " does not match " + m.Regex
	default:
		return "header " + m.Name + " is not " + strconv.Quote(m.Exact)
	}
}

func oneOf(what []string) string {
	if len(what) == 1 {
		return what[0]
	}
	return "one of " + strings.Join(what, ", ")
}

// clip makes a client's string fit to be shown: short, and without characters that a terminal would act on.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "…"
	}
	if s == "" {
		return `""`
	}
	return strings.Trim(strconv.Quote(s), `"`)
}
