package rollout

import (
	"slices"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Report is what policies in mode Audit would have denied.
type Report struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Policies are by name; those that would have denied nothing have no requests.
	Policies []PolicyReport `json:"policies"`
}

// PolicyReport is the evidence about one policy.
type PolicyReport struct {
	Policy string `json:"policy"`
	// Since is when the policy was last changed, as far as can be told; zero when nothing tells.
	Since time.Time `json:"unchangedSince,omitzero"`
	// From is where the evidence begins: what was before the last change tells nothing of the policy as it is.
	From time.Time `json:"evidenceFrom"`
	// Count is how many requests and connections it would have denied, and WouldDeny has them in groups, the largest first. More is how many
	// of them are in no group, since there are too many.
	Count     int       `json:"count"`
	WouldDeny []Request `json:"wouldDeny"`
	More      int       `json:"more,omitempty"`
	// Denied is how many were denied on its account, on ports that another policy enforces. Before is how many events are older than From.
	Denied int `json:"denied,omitempty"`
	Before int `json:"beforeLastChange,omitempty"`
	// With are the policies in mode Audit that govern the same connections, and are enforced there when this one is.
	With []string `json:"with,omitempty"`
	// Gaps are what is missing.
	Gaps []Gap `json:"gaps,omitempty"`
}

// Report makes the report of all policies.
func (c *Collector) Report() Report {
	r := Report{From: c.from, To: c.to, Policies: make([]PolicyReport, 0, len(c.order))}
	gaps := slices.Clone(c.gaps)
	slices.SortStableFunc(gaps, func(a, b Gap) int { return a.To.Compare(b.To) })
	for _, name := range c.order {
		r.Policies = append(r.Policies, c.by[name].finish(gaps))
	}
	return r
}

// InAudit gives the policies that are in mode Audit, but for those that only record.
func InAudit(policies []v1alpha1.L7Policy) []v1alpha1.L7Policy {
	return slices.DeleteFunc(slices.Clone(policies), func(p v1alpha1.L7Policy) bool {
		return p.Spec.Mode != v1alpha1.ModeAudit || Records(&p)
	})
}

// RecorderAnnotation marks a policy that is there to have every request told of, and is never to be enforced: 'meerkat suggest' prints one.
const RecorderAnnotation = "inspection.meerkat.dev/recorder"

// Records tells whether a policy only records.
func Records(p *v1alpha1.L7Policy) bool { return p.Annotations[RecorderAnnotation] == "true" }
