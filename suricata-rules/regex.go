package suricatarules

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// alphabet says how the bytes of a string look in the buffer that is matched.
type alphabet interface {
	// bytes matches one byte of the range.
	bytes(lo, hi byte) string
	// nonASCII matches one character beyond ASCII.
	nonASCII() string
}

// translate turns an RE2 expression into a PCRE over bytes that matches the same whole strings of UTF-8. It is written anew
// from the parsed expression, so nothing of the user's text is pasted.
func translate(expr string, a alphabet) (string, error) {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return "", fmt.Errorf("%q is not a regular expression in RE2's syntax: %w", expr, err)
	}
	t := translator{alphabet: a}
	p := t.expression(trimAnchors(re))
	if t.err != nil {
		return "", fmt.Errorf("%q: %w", expr, t.err)
	}
	return p, nil
}

// trimAnchors takes "^" off the beginning and "$" off the end, where they say nothing: the whole string must match anyway.
func trimAnchors(re *syntax.Regexp) *syntax.Regexp {
	switch re.Op {
	case syntax.OpBeginText, syntax.OpEndText:
		return &syntax.Regexp{Op: syntax.OpEmptyMatch}
	case syntax.OpConcat:
		sub := re.Sub
		for len(sub) > 0 && sub[0].Op == syntax.OpBeginText {
			sub = sub[1:]
		}
		for len(sub) > 0 && sub[len(sub)-1].Op == syntax.OpEndText {
			sub = sub[:len(sub)-1]
		}
		return &syntax.Regexp{Op: syntax.OpConcat, Sub: sub}
	case syntax.OpCapture, syntax.OpAlternate:
		sub := make([]*syntax.Regexp, len(re.Sub))
		for i := range re.Sub {
			sub[i] = trimAnchors(re.Sub[i])
		}
		return &syntax.Regexp{Op: re.Op, Sub: sub}
	}
	return re
}

type translator struct {
	alphabet
	err error
}

func (t *translator) expression(re *syntax.Regexp) string {
	switch re.Op {
	case syntax.OpNoMatch:
		return `(?!)`
	case syntax.OpEmptyMatch:
		return ``
	case syntax.OpLiteral:
		return t.literal(re.Rune, re.Flags&syntax.FoldCase != 0)
	case syntax.OpCharClass:
		return t.class(re.Rune)
	case syntax.OpAnyChar:
		return t.class([]rune{0, utf8.MaxRune})
	case syntax.OpAnyCharNotNL:
		return t.class([]rune{0, '\n' - 1, '\n' + 1, utf8.MaxRune})
	case syntax.OpCapture:
		return t.group(re)
	case syntax.OpStar:
		return t.group(re) + "*"
	case syntax.OpPlus:
		return t.group(re) + "+"
	case syntax.OpQuest:
		return t.group(re) + "?"
	case syntax.OpRepeat:
		if re.Max < 0 {
			return fmt.Sprintf("%s{%d,}", t.group(re), re.Min)
		}
		return fmt.Sprintf("%s{%d,%d}", t.group(re), re.Min, re.Max)
	case syntax.OpConcat:
		return t.join(re.Sub, "")
	case syntax.OpAlternate:
		return "(?:" + t.join(re.Sub, "|") + ")"
	case syntax.OpBeginText, syntax.OpEndText, syntax.OpBeginLine, syntax.OpEndLine:
		t.err = errors.New("^ and $ can stand at the beginning and the end only; the whole string must match in any case, so leave them out")
	default:
		t.err = fmt.Errorf("%s cannot be translated exactly; write it without", re)
	}
	return ""
}

func (t *translator) group(re *syntax.Regexp) string { return "(?:" + t.join(re.Sub, "") + ")" }

func (t *translator) join(sub []*syntax.Regexp, separator string) string {
	parts := make([]string, len(sub))
	for i := range sub {
		parts[i] = t.expression(sub[i])
	}
	return strings.Join(parts, separator)
}

func (t *translator) literal(runes []rune, fold bool) (p string) {
	for _, r := range runes {
		class := []rune{r, r}
		if fold {
			for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
				class = append(class, f, f)
			}
		}
		p += t.class(class)
	}
	return p
}

// class matches one of the ranges, given as pairs.
func (t *translator) class(pairs []rune) string {
	var parts []string
	for pair := range slices.Chunk(pairs, 2) {
		lo, hi := pair[0], pair[1]
		if lo <= utf8.RuneSelf && hi == utf8.MaxRune {
			parts = append(parts, t.nonASCII())
			hi = utf8.RuneSelf - 1
		}
		parts = append(parts, t.utf8(lo, hi)...)
	}
	if len(parts) == 0 {
		return `(?!)`
	}
	return anyOf(parts)
}

// utf8 returns patterns of byte sequences that are, together, the UTF-8 of the runes from lo to hi.
func (t *translator) utf8(lo, hi rune) []string {
	if lo > hi {
		return nil
	}
	// Ranges that cross a border of encoded length, or the surrogates, which have no UTF-8, are split there.
	for _, border := range []rune{0x7f, 0x7ff, 0xd7ff, 0xdfff, 0xffff} {
		if lo <= border && hi > border {
			return append(t.utf8(lo, border), t.utf8(border+1, hi)...)
		}
	}
	if lo >= 0xd800 && hi <= 0xdfff {
		return nil
	}
	first, last := []byte(string(lo)), []byte(string(hi))
	return t.sequences(first, last)
}

// sequences returns patterns for all byte sequences from first to last, which have one length.
func (t *translator) sequences(first, last []byte) []string {
	if len(first) == 1 {
		return []string{t.bytes(first[0], last[0])}
	}
	if first[0] == last[0] {
		return prefixed(t.bytes(first[0], first[0]), t.sequences(first[1:], last[1:]))
	}
	n := len(first) - 1
	lowest, highest := slices.Repeat([]byte{0x80}, n), slices.Repeat([]byte{0xbf}, n)
	lo, hi := first[0], last[0]
	var out []string
	if !slices.Equal(first[1:], lowest) {
		out = append(out, prefixed(t.bytes(lo, lo), t.sequences(first[1:], highest))...)
		lo++
	}
	var tail []string
	if !slices.Equal(last[1:], highest) {
		tail = prefixed(t.bytes(hi, hi), t.sequences(lowest, last[1:]))
		hi--
	}
	if lo <= hi {
		out = append(out, prefixed(t.bytes(lo, hi), t.sequences(lowest, highest))...)
	}
	return append(out, tail...)
}

func prefixed(prefix string, patterns []string) []string {
	out := make([]string, len(patterns))
	for i, p := range patterns {
		out[i] = prefix + p
	}
	return out
}
