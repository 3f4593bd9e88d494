package convert

import (
	"cmp"
	"fmt"
	"slices"
)

// Effect is what a difference does.
type Effect string

// Effects, the worst first.
const (
	// Wider: something that was denied passes.
	Wider Effect = "wider"
	// Stricter: something that passed is denied.
	Stricter Effect = "stricter"
	// Aside: no verdict differs.
	Aside Effect = "note"
)

// Note is one difference between a policy and what it became.
type Note struct {
	// Object is the kind and name ("CiliumNetworkPolicy shop/web").
	Object string `json:"object"`
	// Path is the field ("spec.ingress[0].toPorts[0]").
	Path   string `json:"path"`
	Effect Effect `json:"effect"`
	// Text says what differs and, after a semicolon, what to do.
	Text string `json:"text"`
}

func (n Note) String() string {
	return fmt.Sprintf("%-8s  %s: %s: %s", n.Effect, n.Object, n.Path, n.Text)
}

// notes collects those of one object.
type notes struct {
	object string
	all    []Note
}

func (n *notes) add(effect Effect, path, format string, args ...any) {
	note := Note{n.object, path, effect, fmt.Sprintf(format, args...)}
	if !slices.Contains(n.all, note) {
		n.all = append(n.all, note)
	}
}

// once adds a note that holds for many fields only where it comes first.
func (n *notes) once(effect Effect, path, text string) {
	if !slices.ContainsFunc(n.all, func(have Note) bool { return have.Text == text && have.Object == n.object }) {
		n.add(effect, path, "%s", text)
	}
}

// Worst is the worst effect of some notes; empty without any.
func Worst(all []Note) Effect {
	rank := map[Effect]int{Wider: 2, Stricter: 1}
	if len(all) == 0 {
		return ""
	}
	return slices.MaxFunc(all, func(a, b Note) int { return cmp.Compare(rank[a.Effect], rank[b.Effect]) }).Effect
}
