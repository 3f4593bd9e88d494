package l7

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// NormalizePath returns the path that rules are matched on: the target's path without scheme, authority and query, each
// percent-encoded byte decoded once. It is "" when the target has no path that every server would read alike, and then no
// rule with a path matches: see PathProblem.
//
// Nothing is resolved or merged. A client that asks for "/public/../admin" or "/public/%2e%2e/admin" has no business there,
// and servers disagree about what it means; "//" is two slashes.
func NormalizePath(target string) string {
	path, problem := normalize(target)
	if problem != "" {
		return ""
	}
	return path
}

// PathProblem says why the target has no path that rules are matched on; "" when it has one.
func PathProblem(target string) string {
	_, problem := normalize(target)
	return problem
}

var absoluteForm = regexp.MustCompile(`^(?i:https?)://([^/?#]*)(.*)$`)

// authority returns the authority of a target in absolute form.
func authority(target string) (string, bool) {
	m := absoluteForm.FindStringSubmatch(target)
	if m == nil {
		return "", false
	}
	return m[1], true
}

func normalize(target string) (path, problem string) {
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c == 0x7f {
			return "", "has a space or a control character"
		}
	}
	if m := absoluteForm.FindStringSubmatch(target); m != nil {
		target = m[2]
	}
	raw, _, _ := strings.Cut(target, "?")
	switch {
	case strings.Contains(target, "#"):
		return "", "has a fragment"
	case !strings.HasPrefix(raw, "/"):
		return "", "does not begin with a slash"
	case strings.Contains(raw, `\`):
		return "", "has a backslash"
	}
	path, problem = decode(raw)
	switch {
	case problem != "":
		return "", problem
	case !utf8.ValidString(path):
		return "", "is not UTF-8"
	}
	for segment := range strings.SplitSeq(path, "/") {
		// Some servers cut path parameters (";a=b") off before they resolve dots.
		if segment, _, _ = strings.Cut(segment, ";"); segment == "." || segment == ".." {
			return "", "has a dot segment"
		}
	}
	return path, ""
}

func decode(raw string) (path, problem string) {
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '%' {
			if i+2 >= len(raw) || unhex(raw[i+1]) < 0 || unhex(raw[i+2]) < 0 {
				return "", "has a percent sign that encodes nothing"
			}
			c = byte(unhex(raw[i+1])<<4 | unhex(raw[i+2]))
			i += 2
			switch {
			case c == '/' || c == '\\':
				return "", "has an encoded slash or backslash"
			case c == '%':
				return "", "has an encoded percent sign (it may be decoded twice)"
			case c < ' ' || c == 0x7f:
				return "", "has an encoded control character"
			}
		}
		b.WriteByte(c)
	}
	return b.String(), ""
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
