package suricatarules

import (
	"fmt"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// Paths are matched on the request target as it was sent (http.uri.raw), in both versions of HTTP. The engine's normalised
// http.uri will not do: it holds the query, resolves dots by rules of its own, and is not normalised at all in HTTP/2. So the
// patterns accept each byte as it is or percent-encoded, and first require what l7.NormalizePath requires.
const (
	hexDigit = `[0-9A-Fa-f]`
	// absolute is the part of a target in absolute form that comes before the path.
	absolute = `(?:(?i:https?):\/\/[^\/?#]*+)?`
	// cont is a byte that continues a UTF-8 sequence.
	cont = `(?:[\x80-\xbf]|%[89ABab]` + hexDigit + `)`
	// multibyte is one UTF-8 sequence of more than one byte.
	multibyte = `(?:[\xc2-\xdf]|%(?:[Cc][2-9A-Fa-f]|[Dd]` + hexDigit + `))` + cont +
		`|(?:\xe0|%[Ee]0)(?:[\xa0-\xbf]|%[ABab]` + hexDigit + `)` + cont +
		`|(?:[\xe1-\xec\xee\xef]|%[Ee][1-9A-CEFa-cef])` + cont + `{2}` +
		`|(?:\xed|%[Ee][Dd])(?:[\x80-\x9f]|%[89]` + hexDigit + `)` + cont +
		`|(?:\xf0|%[Ff]0)(?:[\x90-\xbf]|%[9ABab]` + hexDigit + `)` + cont + `{2}` +
		`|(?:[\xf1-\xf3]|%[Ff][1-3])` + cont + `{3}` +
		`|(?:\xf4|%[Ff]4)(?:[\x80-\x8f]|%8` + hexDigit + `)` + cont + `{2}`
	// pathChar is one character of a segment: printable ASCII but / ? # % \ as it is, and encoded but / % \.
	pathChar = `(?:[!-\x22\x24\x26-\.0->@-\[\]-~]|%(?:2[0-46-9A-Ea-e]|[346]` + hexDigit + `|5[0-9ABDEFabdef]|7[0-9A-Ea-e])|` + multibyte + `)`
	// dots is a dot segment, up to its end or its parameters.
	dots = `(?:\.|%2[Ee]){1,2}(?:[\x3b\/?]|%3[Bb]|\z)`
	// saneTarget is a target with a path that every server reads alike.
	saneTarget = absolute + `(?=(?:\/(?!` + dots + `)` + pathChar + `*+)++(?:\?[!-\x22\x24-~\x80-\xff]*+)?\z)`
	pathEnd    = `(?:\?|\z)`
)

// pathPattern returns a PCRE that matches the targets whose normalised path satisfies m.
func pathPattern(m l7.StringMatch) (string, error) {
	switch {
	case m.Prefix != "":
		return "^" + saneTarget + pathLiteral(m.Prefix), nil
	case m.Regex != "":
		p, err := translate(m.Regex, pathAlphabet{})
		if err != nil {
			return "", err
		}
		return "^" + saneTarget + p + pathEnd, nil
	default:
		return "^" + saneTarget + pathLiteral(m.Exact) + pathEnd, nil
	}
}

// pathLiteral returns a PCRE that matches s with any of its bytes percent-encoded.
func pathLiteral(s string) (p string) {
	for i := range len(s) {
		p += pathAlphabet{}.bytes(s[i], s[i])
	}
	return p
}

// pathAlphabet says how bytes look in a request target.
type pathAlphabet struct{}

// bytes matches one byte of the range, as it is or encoded. Which bytes may stand there as they are, saneTarget has checked;
// only those that mean something in a target must be excluded here.
func (pathAlphabet) bytes(lo, hi byte) string {
	if lo == '/' && hi == '/' {
		return `\/`
	}
	var raw []string
	for _, r := range [][2]byte{{0, '"'}, {'$', '$'}, {'&', '>'}, {'@', 0xff}} { // all but # % ?
		if a, b := max(lo, r[0]), min(hi, r[1]); a <= b {
			raw = append(raw, byteRange(a, b))
		}
	}
	encoded := hexRange(lo, hi)
	if len(raw) == 0 {
		return encoded
	}
	class := "[" + strings.Join(raw, "") + "]"
	if lo == hi {
		class = literalByte(lo)
	}
	return "(?:" + class + "|" + encoded + ")"
}

// nonASCII matches one character, given that the whole target is UTF-8.
func (pathAlphabet) nonASCII() string {
	return `(?:(?:[\xc2-\xf4]|%(?:[C-Ec-e]` + hexDigit + `|[Ff][0-4]))` + cont + `++)`
}

// hexRange matches the percent-encoding of one byte of the range.
func hexRange(lo, hi byte) string {
	var parts []string
	for high := lo >> 4; ; high++ {
		a, b := byte(0), byte(15)
		if high == lo>>4 {
			a = lo & 15
		}
		if high == hi>>4 {
			b = hi & 15
		}
		parts = append(parts, hexDigits(high, high)+hexDigits(a, b))
		if high == hi>>4 {
			break
		}
	}
	if len(parts) == 1 {
		return "%" + parts[0]
	}
	return "%" + anyOf(parts)
}

func hexDigits(lo, hi byte) string {
	if lo == 0 && hi == 15 {
		return hexDigit
	}
	const digits = "0123456789abcdef"
	if lo == hi && lo < 10 {
		return string(digits[lo])
	}
	class := digits[lo : hi+1]
	return "[" + class + strings.ToUpper(strings.Trim(class, "0123456789")) + "]"
}

// byteRange returns what stands for the range in a character class.
func byteRange(lo, hi byte) string {
	if lo == hi {
		return classByte(lo)
	}
	return classByte(lo) + "-" + classByte(hi)
}

func classByte(c byte) string {
	if '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' {
		return string(c)
	}
	return fmt.Sprintf(`\x%02x`, c)
}
