package manifests

import (
	"errors"
	"regexp/syntax"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxRegexSize bounds an expression with its repetitions written out, in characters and operators: (a{1000}){1000} is short to
// write and long to match.
const maxRegexSize = 4096

// checkRegex compiles an RE2 expression. It returns whether it can be used, and the text that every match begins with, as far
// as the expression's own beginning tells.
func (c *policyChecker) checkRegex(path *field.Path, text string) (literal string, ok bool) {
	if text == "" {
		c.add(path, text, "is empty and would match only what is empty; write an expression, or leave the field out")
		return "", false
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		c.add(path, text, "is no regular expression: %s", regexReason(err))
		return "", false
	}
	if regexSize(tree) > maxRegexSize {
		c.add(path, text, "is too large with its repetitions written out (more than %d characters and operators); lower the counts in {}, or use * or +", maxRegexSize)
		return "", false
	}
	if part := untranslatable(tree); part != nil {
		c.add(path, text, "has %s inside, which the engine could not match exactly; leave it out: the whole text must match in any case", assertions()[part.Op])
		return "", false
	}
	return leadingLiteral(tree), true
}

// untranslatable returns a part of an expression that has no exact equivalent in the engine's language: a word boundary, or an
// anchor that is neither at the beginning nor at the end of the whole.
func untranslatable(re *syntax.Regexp) *syntax.Regexp {
	switch re.Op {
	case syntax.OpBeginText, syntax.OpEndText:
		return nil
	case syntax.OpConcat:
		sub := re.Sub
		for len(sub) > 0 && sub[0].Op == syntax.OpBeginText {
			sub = sub[1:]
		}
		for len(sub) > 0 && sub[len(sub)-1].Op == syntax.OpEndText {
			sub = sub[:len(sub)-1]
		}
		return firstAssertion(sub)
	case syntax.OpCapture, syntax.OpAlternate:
		for _, sub := range re.Sub {
			if part := untranslatable(sub); part != nil {
				return part
			}
		}
		return nil
	default:
		return firstAssertion([]*syntax.Regexp{re})
	}
}

// assertions are the operators that match a place and not a text, as they are written.
func assertions() map[syntax.Op]string {
	return map[syntax.Op]string{
		syntax.OpBeginText: "^", syntax.OpEndText: "$", syntax.OpBeginLine: "(?m)^", syntax.OpEndLine: "(?m)$",
		syntax.OpWordBoundary: `\b`, syntax.OpNoWordBoundary: `\B`,
	}
}

// firstAssertion returns the first part that matches a place and not a text.
func firstAssertion(parts []*syntax.Regexp) *syntax.Regexp {
	for _, re := range parts {
		if _, ok := assertions()[re.Op]; ok {
			return re
		}
		if part := firstAssertion(re.Sub); part != nil {
			return part
		}
	}
	return nil
}

// regexReason turns the parser's error into a reason and a remedy.
func regexReason(err error) string {
	var parse *syntax.Error
	if !errors.As(err, &parse) {
		return bare(err.Error()) + "; correct it"
	}
	where := parse.Code.String() + " at " + quoted(parse.Expr)
	switch parse.Code {
	case syntax.ErrInvalidPerlOp:
		return where + "; the syntax is RE2's, which has no look-ahead, look-behind and back-references: allow alternatives by l7 entries of their own"
	case syntax.ErrInvalidEscape:
		return where + `; a back-reference does not exist in RE2, and a backslash itself is written \\`
	case syntax.ErrInvalidRepeatSize, syntax.ErrLarge:
		return where + "; lower the counts in {} (at most 1000 in all), or use * or +"
	case syntax.ErrMissingParen, syntax.ErrUnexpectedParen, syntax.ErrMissingBracket:
		return where + `; close what was opened, or write \( \) \[ for the characters themselves`
	default:
		return where + "; correct it, or put a backslash before characters that stand for themselves"
	}
}

// regexSize is the size of an expression with its repetitions written out, or something above maxRegexSize.
func regexSize(re *syntax.Regexp) int {
	size := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		size += regexSize(sub)
		if size > maxRegexSize {
			return maxRegexSize + 1
		}
	}
	if re.Op == syntax.OpRepeat {
		times := max(re.Min, re.Max, 1)
		size = min(size*times, maxRegexSize+1)
	}
	return size
}

// leadingLiteral is the literal text that an expression begins with; empty when it begins with anything else.
func leadingLiteral(re *syntax.Regexp) string {
	switch re.Op {
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase == 0 {
			return string(re.Rune)
		}
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			if sub.Op != syntax.OpBeginText && sub.Op != syntax.OpBeginLine && sub.Op != syntax.OpEmptyMatch {
				return leadingLiteral(sub)
			}
		}
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			if literal := leadingLiteral(sub); literal == "" || literal[0] == '/' {
				return literal
			}
		}
		return leadingLiteral(re.Sub[0])
	case syntax.OpCapture, syntax.OpPlus:
		return leadingLiteral(re.Sub[0])
	}
	return ""
}
