package convert

import (
	"regexp/syntax"
	"strings"
)

// maxLiterals bounds how many words an expression may stand for.
const maxLiterals = 32

// literals gives the words that an expression matches as a whole, when these are few.
func literals(expression string) ([]string, bool) {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, false
	}
	return words(re)
}

func words(re *syntax.Regexp) ([]string, bool) {
	if re.Flags&syntax.FoldCase != 0 {
		return nil, false
	}
	switch re.Op {
	case syntax.OpLiteral:
		return []string{string(re.Rune)}, true
	case syntax.OpEmptyMatch, syntax.OpBeginText, syntax.OpEndText:
		return []string{""}, true
	case syntax.OpCapture:
		return words(re.Sub[0])
	case syntax.OpQuest:
		all, ok := words(re.Sub[0])
		return append([]string{""}, all...), ok && len(all) < maxLiterals
	case syntax.OpCharClass:
		var all []string
		for i := 0; i < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				if all = append(all, string(r)); len(all) > maxLiterals {
					return nil, false
				}
			}
		}
		return all, len(all) > 0
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			more, ok := words(sub)
			if all = append(all, more...); !ok || len(all) > maxLiterals {
				return nil, false
			}
		}
		return all, true
	case syntax.OpConcat:
		all := []string{""}
		for _, sub := range re.Sub {
			more, ok := words(sub)
			if !ok || len(all)*len(more) > maxLiterals {
				return nil, false
			}
			var longer []string
			for _, a := range all {
				for _, b := range more {
					longer = append(longer, a+b)
				}
			}
			all = longer
		}
		return all, true
	default: // repetitions and the like
		return nil, false
	}
}

// prefixed gives what every match begins with, of an expression that matches whatever begins so: "/public/.*".
func prefixed(expression string) (string, bool) {
	rest, ok := strings.CutSuffix(expression, ".*")
	if !ok || strings.HasSuffix(rest, `\`) {
		return "", false
	}
	all, ok := literals(rest)
	if !ok || len(all) != 1 {
		return "", false
	}
	return all[0], true
}

// suffixed gives what every match ends with, of an expression for the names under another: ".*\.example\.com".
func suffixed(expression string) (string, bool) {
	for _, any := range []string{".*", ".+", "[^.]*", "[^.]+", `[a-z0-9-]+`, `[a-zA-Z0-9-]+`} {
		if rest, ok := strings.CutPrefix(expression, any); ok {
			all, ok := literals(rest)
			if ok && len(all) == 1 && strings.HasPrefix(all[0], ".") {
				return all[0][1:], any == ".*" || any == ".+"
			}
		}
	}
	return "", false
}

// mayMatch tells whether an expression speaks of a character by itself, so that a match may have it.
func mayMatch(expression string, r rune) bool {
	re, err := syntax.Parse(expression, syntax.Perl)
	return err == nil && speaksOf(re, r)
}

func speaksOf(re *syntax.Regexp, r rune) bool {
	if re.Op == syntax.OpLiteral {
		return strings.ContainsRune(string(re.Rune), r)
	}
	for _, sub := range re.Sub {
		if speaksOf(sub, r) {
			return true
		}
	}
	return false
}
