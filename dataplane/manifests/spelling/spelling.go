// Package spelling guesses what a misspelt word was meant to be.
package spelling

import (
	"strings"

	"github.com/agnivade/levenshtein"
)

// Nearest returns the candidate that a word is most likely a misspelling of: one letter off in a short word, two in a long one,
// whatever the case; of those equally far, one with the same first letter. It is empty when none is near.
func Nearest(word string, candidates []string) string {
	best, bestDistance := "", 3
	if len(word) <= 5 {
		bestDistance = 2
	}
	for _, candidate := range candidates {
		d := levenshtein.ComputeDistance(strings.ToLower(word), strings.ToLower(candidate))
		sameStart := best != "" && word != "" && candidate[0] == word[0] && best[0] != word[0]
		if d < bestDistance || d == bestDistance && sameStart {
			best, bestDistance = candidate, d
		}
	}
	return best
}
