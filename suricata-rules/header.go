package suricatarules

import (
	"errors"
	"regexp"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// Header fields are matched as they were sent: in HTTP/1 in http.header.raw, since http.header joins repeated fields and
// leaves cookies out; in HTTP/2 one by one in http.request_header, where no value can look like another field.

// linesBefore matches any lines of a header that come before the one in question, and stays before the empty line.
const linesBefore = `(?:[^\r\n]++\r?\n)*?`

// headerLine returns a PCRE that matches a whole HTTP/1 header with such a field.
func headerLine(name, value string) string {
	return "^" + linesBefore + foldLiteral(name) + ":" + value + `\r?\n`
}

// headerField returns a PCRE that matches such a field of HTTP/2.
func headerField(name, value string) string {
	return "^" + foldLiteral(name) + ":" + value + `\z`
}

// headerValue returns a PCRE that matches a value and the blanks around it.
func headerValue(m l7.HeaderMatch) (string, error) {
	const blanks = `[ \t]*`
	switch {
	case m.Present:
		return `[^\r\n]*+`, nil
	case m.Regex != "":
		p, err := translate(m.Regex, headerAlphabet{})
		if err != nil {
			return "", err
		}
		// The blanks around a value are not part of it, though the expression might match them.
		value := blanks + `+(?=[^ \t\r\n])(?:` + p + `)(?<![ \t])` + blanks
		if m.Matches([]l7.Header{{Name: m.Name}}) { // also a value of which nothing is left
			return "(?:" + value + "|" + blanks + ")", nil
		}
		return value, nil
	case strings.Trim(m.Exact, " \t") != m.Exact:
		return "", errors.New("no value begins or ends with a blank: blanks around a value are not part of it")
	case strings.ContainsAny(m.Exact, "\r\n\x00"):
		return "", errors.New("no value has a line break or a NUL")
	default:
		return blanks + literal(m.Exact) + blanks, nil
	}
}

// headerAlphabet says how bytes look in a header field: as they are.
type headerAlphabet struct{}

func (headerAlphabet) bytes(lo, hi byte) string {
	if lo == hi {
		switch lo {
		case 0, '\r', '\n':
			return `(?!)`
		}
		return literalByte(lo)
	}
	var ranges []string
	for _, r := range [][2]byte{{1, 9}, {11, 12}, {14, 0xff}} { // all but NUL and line breaks
		if a, b := max(lo, r[0]), min(hi, r[1]); a <= b {
			ranges = append(ranges, byteRange(a, b))
		}
	}
	if len(ranges) == 0 {
		return `(?!)`
	}
	return "[" + strings.Join(ranges, "") + "]"
}

func (headerAlphabet) nonASCII() string {
	return `(?:[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]` +
		`|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})`
}

// token is the form of methods and of names of header fields (RFC 9110, 5.6.2).
var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// checkHeader refuses conditions on what is not a header field or has a place of its own.
func checkHeader(m l7.HeaderMatch) error {
	switch {
	case !token.MatchString(m.Name):
		return errors.New("the name is not one of a header field")
	case strings.EqualFold(m.Name, "host"):
		return errors.New("the Host field is matched by hosts")
	}
	return nil
}
