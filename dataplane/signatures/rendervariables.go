package signatures

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// What the engine makes of lists is not what they say, where a list with ! is part of another one. It puts the values of all into one
// list, those with ! and those without, and turns each around where the part has a ! before it: so with X of [10.0.0.0/8,!10.1.0.0/16],
// !$X is nothing at all, which it refuses, and [$X,10.1.2.3] is without 10.1.2.3. It refuses a list, too, that leaves out all of IPv4 or
// all of IPv6. So a variable with ! is written as what it stands for, without !, where that is not long.

// maxPlain is how many values without ! a variable with ! may become. 10.0.0.0/8 without one address is 24; all addresses but one are 160.
const maxPlain = 64

// maxList is how long a list may be, in bytes. The engine refuses those of more than 8,195.
const maxList = 8000

func rendered(k kind, all map[string]v1alpha1.RuleValues) map[string]string {
	r := newResolver(k, all)
	out := make(map[string]string, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		writeList(out, name, r.render(name))
	}
	return out
}

// writeList puts a list into the variable; a long one into several, of which it is made. Users' names have no small letters.
func writeList(out map[string]string, name string, values []string) {
	var parts []string
	for start := 0; start < len(values); {
		end, size := start, 0
		for end < len(values) && (end == start || size+len(values[end]) < maxList) {
			size += len(values[end]) + len(",")
			end++
		}
		if start == 0 && end == len(values) {
			out[name] = list(values)
			return
		}
		part := fmt.Sprintf("%s_part%d", name, len(parts)+1)
		out[part] = list(values[start:end])
		parts = append(parts, "$"+part)
		start = end
	}
	out[name] = list(parts)
}

func list(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return "[" + strings.Join(values, ",") + "]"
}

// render gives the values of a variable that stand for the same to the engine as they do to people.
func (r *resolver) render(name string) []string {
	values := r.values[name]
	set, err := r.resolve(name)
	if err != nil || !r.leavesOut(name) {
		return values
	}
	without := r.others(set)
	if len(values) == 1 { // $EXTERNAL_NET and !$HOME_NET are right as they are, and people can read them
		_, alias := strings.CutPrefix(values[0], "$")
		other, negated := strings.CutPrefix(values[0], "!$")
		if alias || negated && !r.leavesOut(other) && !r.coversAFamily(without) {
			return values
		}
	}
	plain := r.kind.list(set)
	if len(plain) <= maxPlain || len(plain) <= len(r.kind.list(without)) || r.coversAFamily(without) {
		return plain
	}
	var negated []string
	for _, value := range r.kind.list(without) {
		negated = append(negated, "!"+value)
	}
	return negated
}

// others are all that is not in the set.
func (r *resolver) others(set *netipx.IPSet) *netipx.IPSet {
	var b netipx.IPSetBuilder
	b.AddSet(r.kind.all)
	b.RemoveSet(set)
	others, _ := b.IPSet() // of sets that are right
	return others
}

// leavesOut tells whether the variable, or one that it names, has a value with !.
func (r *resolver) leavesOut(name string) bool {
	return slices.ContainsFunc(r.values[name], func(value string) bool {
		other, isName := strings.CutPrefix(value, "$")
		return strings.HasPrefix(value, "!") || isName && r.leavesOut(other)
	})
}

// coversAFamily tells whether all of IPv4 or all of IPv6 is in the set.
func (r *resolver) coversAFamily(set *netipx.IPSet) bool {
	return slices.ContainsFunc(r.kind.all.Ranges(), set.ContainsRange)
}

func addressList(set *netipx.IPSet) (out []string) {
	for _, p := range set.Prefixes() {
		out = append(out, p.String())
	}
	return out
}

func portList(set *netipx.IPSet) (out []string) {
	for _, r := range set.Ranges() {
		from, to := r.From().As4(), r.To().As4()
		low, high := int(from[2])<<8|int(from[3]), int(to[2])<<8|int(to[3])
		if low == high {
			out = append(out, fmt.Sprint(low))
			continue
		}
		out = append(out, fmt.Sprintf("%d:%d", low, high))
	}
	return out
}
