package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// maxSentences bounds how many problems one condition tells; a message must fit into 32 KiB and into a terminal.
const maxSentences = 10

func newFindings(x *index, policies []*policy, s *shadows) Findings {
	f := Findings{Policies: make([]PolicyFindings, 0, len(policies))}
	for _, p := range policies {
		own := PolicyFindings{Policy: p.name, Pods: len(p.selected.pods)}
		for _, id := range p.selected.pods {
			if x.pods[id].local {
				own.LocalPods++
			}
		}
		own.Conditions = append(own.Conditions, accepted(x, p), resolvedRefs(p))
		if c, ok := shadowed(p, s); ok {
			own.Conditions = append(own.Conditions, c)
		}
		if c, ok := hiddenClients(x, p); ok {
			own.Conditions = append(own.Conditions, c)
		}
		f.Policies = append(f.Policies, own)
	}
	return f
}

func newCondition(p *policy, kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, ObservedGeneration: p.object.Generation, Reason: reason, Message: message}
}

func accepted(x *index, p *policy) metav1.Condition {
	if len(p.faults) > 0 {
		return newCondition(p, v1alpha1.ConditionAccepted, metav1.ConditionFalse, ReasonInvalid,
			join(p.faults)+" What is invalid allows nothing; the rest of the policy is enforced.")
	}
	message := "The policy is valid."
	if len(p.selected.pods) == 0 {
		message += " It selects no Pod at present."
	}
	if n := len(p.selected.host); n > 0 {
		message += fmt.Sprintf(" It does not govern Pods that use their node's network, such as %s.", x.pods[p.selected.host[0]].name)
	}
	return newCondition(p, v1alpha1.ConditionAccepted, metav1.ConditionTrue, ReasonAccepted, message)
}

func resolvedRefs(p *policy) metav1.Condition {
	if len(p.dangling) > 0 {
		return newCondition(p, v1alpha1.ConditionResolvedRefs, metav1.ConditionFalse, p.dangling[0].reason, join(p.dangling))
	}
	message := strings.Join(append([]string{"All references are resolved."}, p.notes...), " ")
	return newCondition(p, v1alpha1.ConditionResolvedRefs, metav1.ConditionTrue, ReasonResolvedRefs, message)
}

// shadowed returns false when no rule of the policy is shadowed.
func shadowed(p *policy, s *shadows) (metav1.Condition, bool) {
	var problems []problem
	reason := ReasonPartlyShadowedRule
	for _, r := range slices.Concat(p.ingress, p.egress) {
		by := slices.SortedFunc(maps.Keys(s.by[r]), func(a, b *rule) int { return cmp.Compare(a.number, b.number) })
		if len(by) == 0 {
			continue
		}
		effect := "has no effect for some of its peers or ports"
		if s.total[r] {
			reason, effect = ReasonShadowedRule, "has no effect"
		}
		problems = append(problems, problem{reason, fmt.Sprintf("%s %s, as the same is allowed without l7, and so without inspection, by %s",
			r.describe(p), effect, describeRules(by, p))})
	}
	if len(problems) == 0 {
		return metav1.Condition{}, false
	}
	return newCondition(p, ConditionShadowed, metav1.ConditionTrue, reason,
		join(problems)+" Where this is not meant, give the allowing rule l7 too, or narrow its peers or ports."), true
}

// describeRules names at most three rules.
func describeRules(rules []*rule, in *policy) string {
	var names []string
	for _, r := range rules[:min(len(rules), 3)] {
		names = append(names, r.describe(in))
	}
	if more := len(rules) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, " and ")
}

// describe names a rule for a sentence in a condition of the given policy.
func (r *rule) describe(in *policy) string {
	text := r.field
	if !strings.HasSuffix(r.field, r.label) {
		text += " (" + r.label + ")"
	}
	if r.policy != in {
		text += " of the policy " + r.policy.label
	}
	return text
}

// join makes one text of the sentences.
func join(problems []problem) string {
	var sentences []string
	for _, p := range problems[:min(len(problems), maxSentences)] {
		text := p.message
		if !strings.HasSuffix(text, ".") {
			text += "."
		}
		sentences = append(sentences, text)
	}
	if more := len(problems) - len(sentences); more > 0 {
		sentences = append(sentences, fmt.Sprintf("And %d more.", more))
	}
	return strings.Join(sentences, " ")
}
