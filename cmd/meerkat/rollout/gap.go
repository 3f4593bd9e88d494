package rollout

import (
	"fmt"
	"time"
)

// Gap is a part of the evidence that is missing.
type Gap struct {
	// Node is the one whose events are missing; empty when nobody knows.
	Node string `json:"node,omitempty"`
	// To is when the gap ends, or when it was told of.
	To time.Time `json:"to"`
	// Lost is how many events are missing, where the agent has counted them.
	Lost uint64 `json:"lost,omitempty"`
	// Why is a sentence.
	Why string `json:"why"`
}

// LostEvents is the gap of a line with the verdict lost.
func LostEvents(node string, at time.Time, count uint64) Gap {
	return Gap{Node: node, To: at, Lost: count, Why: fmt.Sprintf("node %s left %d events out of its log at %s, since they came too fast", node, count, clock(at))}
}

// LateBeginning is the gap before the first line of a node's log.
func LateBeginning(node string, begins time.Time) Gap {
	return Gap{Node: node, To: begins, Why: fmt.Sprintf("node %s: its log begins at %s: what was before is gone, with an agent that ended or a file that was full", node, clock(begins))}
}

// Unread is the gap of a node whose log could not be read to its end.
func Unread(node string, now time.Time, err error) Gap {
	return Gap{Node: node, To: now, Why: fmt.Sprintf("node %s: its log could not be read: %v", node, err)}
}

// clock is a time as reports have it.
func clock(t time.Time) string { return t.UTC().Format("15:04:05Z") }
