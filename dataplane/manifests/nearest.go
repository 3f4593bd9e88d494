package manifests

import "strings"

// nearest returns the candidate that a word is most likely a misspelling of; empty when none is near.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", 3
	if len(word) <= 5 {
		bestDistance = 2
	}
	for _, candidate := range candidates {
		d := distance(strings.ToLower(word), strings.ToLower(candidate), bestDistance)
		sameStart := best != "" && word != "" && candidate[0] == word[0] && best[0] != word[0]
		if d < bestDistance || d == bestDistance && sameStart {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance is how many letters must be changed, added or removed to make one word of the other, or at least limit+1 when the
// lengths alone tell that it is more than limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
