package rollout

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// validate waits for the verdict of the validator, and chooses another when it does not come.
func (s *State) validate(in Input) time.Duration {
	r := s.Rollout
	if n := find(in.Nodes, r.Validator); n != nil {
		switch v := verdict(n, r.Revision); {
		case v != nil && v.Error == "" && v.Failed > 0:
			s.fail(in, v1alpha1.RolloutRefused, ReasonRulesRefused, fmt.Sprintf("The engine of %s refuses %s of the revision %s: see failures. Correct or disable them.",
				n.Name, rules(int(v.Failed)), r.Revision))
			return 0
		case v != nil && v.Error == "":
			s.validated(in)
			return 0
		case v == nil && n.Reports && in.Now.Before(r.Since.Add(ValidationTime)):
			return r.Since.Add(ValidationTime).Sub(in.Now)
		}
	}
	order := inOrder(in, func(n *Node) bool { return n.Reports })
	if len(order) == 0 {
		r.Validator = ""
		return 0 // until an agent reports
	}
	// Whom the others have come after; those that cannot come last.
	next := slices.IndexFunc(order, func(n *Node) bool { return n.Name == r.Validator }) + 1
	order = slices.Concat(order[next:], order[:next])
	slices.SortStableFunc(order, func(a, b *Node) int { return cmp.Compare(couldNot(a, r.Revision), couldNot(b, r.Revision)) })
	if r.Validator != order[0].Name || !in.Now.Before(r.Since.Add(ValidationTime)) {
		r.Validator, r.Since = order[0].Name, at(in.Now)
	}
	if v := verdict(order[0], r.Revision); v != nil && v.Error == "" {
		return s.validate(in) // it has said so before it was asked
	}
	return r.Since.Add(ValidationTime).Sub(in.Now)
}

// validated goes on with a revision that the engine loads.
func (s *State) validated(in Input) {
	if in.Spec == nil || in.Spec.Canary == nil {
		s.enter(in, v1alpha1.RolloutRolling)
		return
	}
	s.enter(in, v1alpha1.RolloutCanary)
}

// verdict is what a node says of a revision that it was asked to validate.
func verdict(n *Node, revision string) *v1alpha1.NodeValidation {
	if n.Report == nil || n.Report.Validation == nil || n.Report.Validation.Revision != revision {
		return nil
	}
	return n.Report.Validation
}

func couldNot(n *Node, revision string) int {
	if v := verdict(n, revision); v != nil && v.Error != "" {
		return 1
	}
	return 0
}

// inOrder are the nodes that may be chosen: those that need the rule set first, and else in an order that is the same each time, and
// another for each rule set.
func inOrder(in Input, may func(*Node) bool) []*Node {
	var all []*Node
	for i := range in.Nodes {
		if may(&in.Nodes[i]) {
			all = append(all, &in.Nodes[i])
		}
	}
	slices.SortFunc(all, func(a, b *Node) int {
		if a.Needs != b.Needs {
			if a.Needs {
				return -1
			}
			return 1
		}
		x, y := sha256.Sum256([]byte(in.Key+"\x00"+a.Name)), sha256.Sum256([]byte(in.Key+"\x00"+b.Name))
		return slices.Compare(x[:], y[:])
	})
	return all
}

func find(nodes []Node, name string) *Node {
	for i := range nodes {
		if nodes[i].Name == name && name != "" {
			return &nodes[i]
		}
	}
	return nil
}

func rules(n int) string {
	if n == 1 {
		return "one rule"
	}
	return fmt.Sprintf("%d rules", n)
}
