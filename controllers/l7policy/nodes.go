package l7policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/node"
)

const (
	// maxNamed is how many nodes a status names, and maxTold how many of them a message quotes.
	maxNamed, maxTold = 10, 3
	// maxMessage is the length of a condition's message, in bytes, that reads well; the API allows 32 KiB.
	maxMessage = 4096
)

// sorted are a policy's nodes by what they are at. Each is in one of the first four lists, or in down.
type sorted struct {
	applying, failing, waiting, uncovered []*nodeView
	down                                  []*nodeView
	// troubled are those that need a look, the worst first; idle those that apply the policy without judging packets by it, and do
	// not say why.
	troubled, idle []*nodeView
}

func sortNodes(k known) *sorted {
	n := &sorted{}
	// While everything was programmed, a node that Pods have just come to is given time to say that it is too.
	before := find(k.before.Conditions, v1alpha1.ConditionProgrammed)
	settled := k.engine.exists && before != nil && before.Status == "True" && before.ObservedGeneration == k.generation
	for i := range k.nodes {
		v := &k.nodes[i]
		spoken := v.report != nil && v.report.ObservedGeneration == k.generation
		switch {
		case v.down && (v.report == nil || v.silent):
			n.down = append(n.down, v)
			continue
		case !v.covered && k.engine.exists:
			n.uncovered = append(n.uncovered, v)
			continue
		case spoken && v.report.Programmed:
			n.applying = append(n.applying, v)
		case spoken:
			n.failing = append(n.failing, v)
		case settled && v.joined && v.report == nil:
			continue
		default:
			n.waiting = append(n.waiting, v)
		}
		switch {
		case !k.engine.exists:
		case v.silent, v.report != nil && v.report.Degraded != "":
			n.troubled = append(n.troubled, v)
		case spoken && v.report.Programmed && !v.report.Enforced:
			n.idle = append(n.idle, v)
		}
	}
	slices.SortStableFunc(n.failing, func(a, b *nodeView) int {
		return cmp.Or(cmp.Compare(rank(a.report.Reason), rank(b.report.Reason)), cmp.Compare(a.report.Reason, b.report.Reason))
	})
	slices.SortStableFunc(n.troubled, func(a, b *nodeView) int {
		return cmp.Or(cmp.Compare(rank(trouble(a)), rank(trouble(b))), cmp.Compare(trouble(a), trouble(b)))
	})
	return n
}

// rank puts the reasons that matter most first.
func rank(reason string) int {
	order := []string{node.ReasonRulesRefused, node.ReasonSwitchDown, node.ReasonEngineNotInspecting, ReasonNodeNotReporting}
	if i := slices.Index(order, reason); i >= 0 {
		return i
	}
	return len(order)
}

func (n *sorted) total() int {
	return len(n.applying) + len(n.failing) + len(n.waiting) + len(n.uncovered)
}

func (n *sorted) counts() *v1alpha1.NodeCounts {
	c := &v1alpha1.NodeCounts{Desired: int32(n.total()), Programmed: int32(len(n.applying))}
	for _, v := range slices.Concat(n.failing, n.uncovered, n.waiting) {
		if len(c.Failing) < maxNamed {
			c.Failing = append(c.Failing, v.name)
		}
	}
	return c
}

// names lists nodes: a, b and 3 more.
func names(views []*nodeView) string {
	var text []string
	for _, v := range views[:min(len(views), maxNamed)] {
		text = append(text, v.name)
	}
	if more := len(views) - len(text); more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(text, ", "), more)
	}
	return strings.Join(text, ", ")
}

// tell quotes nodes, one sentence each.
func tell(views []*nodeView, what func(*nodeView) string) string {
	var text []string
	for _, v := range views[:min(len(views), maxTold)] {
		text = append(text, v.name+": "+strings.TrimRight(cut(what(v), maxMessage/(maxTold+1)), ". :")+".")
	}
	if more := len(views) - len(text); more > 0 {
		text = append(text, fmt.Sprintf("And %d more.", more))
	}
	return strings.Join(text, " ")
}

// verb says 1 node applies, 2 nodes apply.
func verb(count int, one, more string) string {
	if count == 1 {
		return strings.TrimSpace("1 node " + one)
	}
	return strings.TrimSpace(fmt.Sprintf("%d nodes %s", count, more))
}

// cut shortens a text to a number of bytes.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	const mark = "…"
	text = text[:most-len(mark)]
	for !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return text + mark
}
