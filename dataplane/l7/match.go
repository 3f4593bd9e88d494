package l7

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// Matches tells whether s satisfies m.
func (m StringMatch) Matches(s string) bool {
	switch {
	case m.Prefix != "":
		return strings.HasPrefix(s, m.Prefix)
	case m.Regex != "":
		return wholeMatch(m.Regex, s)
	default:
		return s == m.Exact
	}
}

// wholeMatch tells whether the RE2 expression matches all of s. What is not UTF-8 and what is not RE2 match nothing.
func wholeMatch(expr, s string) bool {
	re, err := regexp.Compile(expr)
	if err != nil || !utf8.ValidString(s) {
		return false
	}
	re.Longest() // if all of s matches, then that is the longest match, and none begins before it
	match := re.FindStringIndex(s)
	return match != nil && match[0] == 0 && match[1] == len(s)
}

// Matches tells whether one of the fields satisfies m. Spaces and tabs around a value are not part of it. A HeaderMatch with
// nothing but a name matches an empty value.
func (m HeaderMatch) Matches(fields []Header) bool {
	for _, f := range fields {
		value := strings.Trim(f.Value, " \t")
		switch {
		case !strings.EqualFold(f.Name, m.Name):
		case m.Present, m.Regex != "" && wholeMatch(m.Regex, value), m.Regex == "" && value == m.Exact:
			return true
		}
	}
	return false
}

// matchesName tells whether name, in lower case, is one of patterns: an exact name, or "*.suffix", which stands for one or
// more labels before the suffix.
func matchesName(patterns []string, name string) bool {
	for _, p := range patterns {
		p = strings.ToLower(p)
		if suffix, ok := strings.CutPrefix(p, "*"); ok {
			if len(name) > len(suffix) && strings.HasSuffix(name, suffix) && isName(name) {
				return true
			}
		} else if name == p {
			return true
		}
	}
	return false
}

// isName tells whether s has only characters of host names.
func isName(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool {
		return c != '.' && c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z')
	})
}

// hostName returns the name in a Host field or authority, in lower case and without port; "" when it has another form.
func hostName(host string) string {
	name, port, _ := strings.Cut(strings.Trim(host, " \t"), ":")
	name = strings.ToLower(name)
	if !isName(name) || strings.Trim(port, "0123456789") != "" {
		return ""
	}
	return name
}
