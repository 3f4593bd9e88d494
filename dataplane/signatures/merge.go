package signatures

import "fmt"

// add takes a rule in, unless there is one with its number that counts more: of the higher rev, or, where both are equal, of a later
// file. Within one file the first counts, as with suricata-update; two that are both switched on there are a slip of the writer's.
func (b *builder) add(r *rule) {
	b.rules = append(b.rules, r)
	have := b.byNumber[r.number()]
	if have == nil {
		b.byNumber[r.number()] = r
		return
	}
	winner, loser := have, r
	if r.rev > have.rev || r.rev == have.rev && r.file != have.file {
		winner, loser = r, have
	}
	if r.file == have.file && r.enabled && have.enabled && winner.fault == "" {
		winner.fault = fmt.Sprintf("line %d has a rule with its number too: give each a sid of its own, or leave one out", loser.origin.Line)
	}
	loser.lost = true
	b.byNumber[r.number()] = winner
}
