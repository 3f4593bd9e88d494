package rollout

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// maxCanaries is how many a status names.
const maxCanaries = 100

// watch watches canaries until they have held the revision for long enough, or a bound breaks.
func (s *State) watch(in Input) time.Duration {
	r := s.Rollout
	needing := inOrder(in, func(n *Node) bool { return n.Needs })
	if len(needing) == 0 || in.Spec == nil || in.Spec.Canary == nil {
		s.enter(in, v1alpha1.RolloutRolling) // nobody runs it, or it is to be everywhere at once
		return 0
	}
	share := Share(*in.Spec.Canary, len(needing))
	r.Canaries = slices.DeleteFunc(r.Canaries, func(c v1alpha1.CanaryNode) bool {
		n := find(in.Nodes, c.Node)
		return n == nil || !n.Needs
	})
	r.Canaries = r.Canaries[:min(len(r.Canaries), share)]
	if len(r.Canaries) == 0 {
		s.choose(in, needing, share)
		return lookAgain
	}
	all := true
	for i := range r.Canaries {
		c := &r.Canaries[i]
		n := find(in.Nodes, c.Node)
		if reason, message := broken(c, n, in, r); reason != "" {
			s.fail(in, v1alpha1.RolloutRolledBack, reason, message+" "+s.back())
			return 0
		}
		look(c, n, in, r)
		all = all && n.runs(r.Revision) && n.Reports
	}
	if !all {
		return lookAgain
	}
	if r.Held == nil {
		r.Held = at(in.Now)
	}
	if left := r.Held.Add(hold(in.Spec)).Sub(in.Now); left > 0 {
		return min(left, lookAgain)
	}
	s.enter(in, v1alpha1.RolloutRolling)
	return 0
}

// back says what nodes run when a revision has been rolled back.
func (s *State) back() string {
	if s.Revision == "" {
		return "No node runs it any more, and there is none before it. Change the rule set or its sources."
	}
	return fmt.Sprintf("All nodes run the revision %s again. Change the rule set or its sources, or its bounds.", s.Revision)
}

// choose makes the first nodes canaries that report, and notes what they did under the revision before.
func (s *State) choose(in Input, needing []*Node, share int) {
	for _, n := range needing {
		if len(s.Rollout.Canaries) == share {
			break
		}
		if !n.Reports {
			continue
		}
		c := v1alpha1.CanaryNode{Node: n.Name}
		if s.Revision != "" && n.runs(s.Revision) {
			c.AlertsPerMinute = whole(n.perMinute(n.Report.Alerts, in.Now))
			c.DropsPerMinute = whole(n.perMinute(n.Report.Drops, in.Now))
		}
		s.Rollout.Canaries = append(s.Rollout.Canaries, c)
	}
	s.Rollout.Since, s.Rollout.Held = at(in.Now), nil
	slices.SortFunc(s.Rollout.Canaries, func(a, b v1alpha1.CanaryNode) int { return strings.Compare(a.Node, b.Node) })
}

// broken tells which bound a canary has broken; empty for none.
func broken(c *v1alpha1.CanaryNode, n *Node, in Input, r *v1alpha1.RolloutStatus) (reason, message string) {
	late := !in.Now.Before(r.Since.Add(LoadTime))
	if !n.runs(r.Revision) {
		switch {
		case r.Held != nil && n.Reports:
			return ReasonNotLoaded, fmt.Sprintf("%s no longer runs the revision %s%s.", c.Node, r.Revision, why(n))
		case !late:
			return "", ""
		case !n.Reports:
			return ReasonNotReporting, fmt.Sprintf("%s has not reported since it was to load the revision %s: look at Meerkat's Pod there.", c.Node, r.Revision)
		}
		return ReasonNotLoaded, fmt.Sprintf("%s has not loaded the revision %s within %v%s.", c.Node, r.Revision, LoadTime, why(n))
	}
	switch {
	case !n.Reports:
		return ReasonNotReporting, fmt.Sprintf("%s has fallen silent since it runs the revision %s: look at Meerkat's Pod there.", c.Node, r.Revision)
	case !n.Report.Healthy:
		return ReasonEngineNotHealthy, fmt.Sprintf("The engine of %s does not inspect with the revision %s%s.", c.Node, r.Revision, why(n))
	}
	bounds := in.Spec.Bounds
	alerts, drops := recent(c, n, in.Now)
	if now, most := drops, bound(c.DropsPerMinute, bounds.MaxDropsPerMinute, 60); now > most {
		return ReasonTooManyDrops, fmt.Sprintf("%s drops %.0f packets and flows in a minute with the revision %s, and may drop %.0f: it dropped %d before (maxDropsPerMinute).",
			c.Node, now, r.Revision, most, c.DropsPerMinute)
	}
	if now, most := alerts, bound(c.AlertsPerMinute, bounds.MaxAlertsPerMinute, 600); now > most {
		return ReasonTooManyAlerts, fmt.Sprintf("%s raises %.0f alerts in a minute with the revision %s, and may raise %.0f: it raised %d before (maxAlertsPerMinute).",
			c.Node, now, r.Revision, most, c.AlertsPerMinute)
	}
	return "", ""
}

// why is what a node says of its trouble.
func why(n *Node) string {
	if n.Report == nil || n.Report.Reason == "" {
		return ""
	}
	return ": " + n.Report.Reason + ": " + strings.TrimRight(n.Report.Message, ". ")
}

func bound(before int32, more *int32, standard int32) float64 {
	if more == nil {
		more = &standard
	}
	return float64(before) + float64(*more)
}

// Share is how many of so many nodes are canaries: at least one, and at most 100.
func Share(canary intstr.IntOrString, nodes int) int {
	n := int(canary.IntVal)
	if canary.Type == intstr.String {
		percent, err := strconv.Atoi(strings.TrimSuffix(canary.StrVal, "%"))
		if err != nil {
			percent = 0 // the schema sees to it; then the fewest
		}
		n = nodes * percent / 100
	}
	return max(1, min(n, nodes, maxCanaries))
}

func hold(spec *v1alpha1.RuleSetRollout) time.Duration {
	if spec.Hold == nil {
		return DefaultHold
	}
	return spec.Hold.Duration
}

// whole is a rate as a status has it, rounded up.
func whole(rate float64) int32 {
	return int32(min(math.Ceil(rate), math.MaxInt32))
}
