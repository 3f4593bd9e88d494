package agent

import (
	"testing"
	"time"
)

// TestNotice: the first of several changes counts, and one that was not put in force counts until it is.
func TestNotice(t *testing.T) {
	var n notice
	if at := n.take(); !at.IsZero() {
		t.Errorf("a change at %s, before there was one", at)
	}
	first := time.Now()
	n.note(first)
	n.note(first.Add(time.Second))
	if at := n.take(); !at.Equal(first) {
		t.Errorf("the first change was at %s, not %s", first, at)
	}
	n.note(first.Add(2 * time.Second)) // while the first ones are being put in force, which fails
	n.giveBack(first)
	n.giveBack(time.Time{})
	if at := n.take(); !at.Equal(first) {
		t.Errorf("the change at %s is not in force, and is forgotten for one at %s", first, at)
	}
	if at := n.take(); !at.IsZero() {
		t.Errorf("a change at %s, which somebody has taken", at)
	}
}
