package suricatarules

import (
	"fmt"
	"strings"
)

// Everything that comes from a user enters a rule inside a pcre option, and only through literal, which leaves nothing but
// letters, digits and a few harmless characters as they are. So no string can end an option or a rule.

// pcre returns an option that matches the pattern, which must be a PCRE over bytes.
func pcre(pattern string) string { return `pcre:"/` + pattern + `/"; ` }

// notPCRE returns an option that matches when the pattern does not. The engine takes an error in matching (a limit that is
// reached) for no match, negated or not: use it for patterns without backtracking only.
func notPCRE(pattern string) string { return `pcre:!"/` + pattern + `/"; ` }

// literal returns a PCRE that matches s.
func literal(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteString(literalByte(s[i]))
	}
	return b.String()
}

func literalByte(c byte) string {
	switch {
	case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', c == '_':
		return string(c)
	case c == '.' || c == '-' || c == '/':
		return `\` + string(c)
	default:
		return fmt.Sprintf(`\x%02x`, c)
	}
}

// foldLiteral returns a PCRE that matches s in any case.
func foldLiteral(s string) string { return "(?i:" + literal(s) + ")" }

// anyOf returns a PCRE that matches what one of the patterns matches.
func anyOf(patterns []string) string {
	if len(patterns) == 1 {
		return patterns[0]
	}
	return "(?:" + strings.Join(patterns, "|") + ")"
}

// anyLiteral returns a PCRE that matches one of the strings.
func anyLiteral(all []string) string {
	patterns := make([]string, len(all))
	for i, s := range all {
		patterns[i] = literal(s)
	}
	return anyOf(patterns)
}

// names returns a PCRE that matches the names, exact or "*.suffix", in any case.
func names(all []string) string {
	patterns := make([]string, len(all))
	for i, name := range all {
		if suffix, ok := strings.CutPrefix(name, "*"); ok {
			patterns[i] = `[A-Za-z0-9._-]+` + foldLiteral(suffix)
		} else {
			patterns[i] = foldLiteral(name)
		}
	}
	return anyOf(patterns)
}
