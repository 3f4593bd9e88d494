package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/observing"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// mostGroups is how many groups of requests are kept of a policy; the rest is counted only.
const mostGroups = 5000

// Options say what evidence is collected of.
type Options struct {
	// From and To are the time that is asked about.
	From, To time.Time
	// Policies are those to judge; others' events are left out.
	Policies []v1alpha1.L7Policy
	// Workload names what a Pod ("namespace/name") is of; nil leaves Pods as they are.
	Workload func(pod string) string
	// Exact leaves paths as they were.
	Exact bool
}

// Collector takes events in any order, and is for use by one goroutine.
type Collector struct {
	from, to time.Time
	workload func(string) string
	exact    bool
	by       map[string]*collected
	order    []string
	gaps     []Gap
}

// collected is what was told of one policy.
type collected struct {
	policy    *v1alpha1.L7Policy
	unchanged time.Time
	groups    map[string]*Request
	report    PolicyReport
	last      time.Time // of all its events, also those before it was changed
}

// New makes a collector.
func New(o Options) *Collector {
	c := &Collector{from: o.From, to: o.To, workload: o.Workload, exact: o.Exact, by: map[string]*collected{}}
	if c.workload == nil {
		c.workload = func(pod string) string { return pod }
	}
	for i := range o.Policies {
		p := &o.Policies[i]
		name := p.Namespace + "/" + p.Name
		k := &collected{policy: p, unchanged: UnchangedSince(p), groups: map[string]*Request{}}
		k.report = PolicyReport{Policy: name, Since: k.unchanged, From: o.From}
		if k.unchanged.After(o.From) {
			k.report.From = k.unchanged
		}
		c.by[name] = k
		c.order = append(c.order, name)
	}
	slices.Sort(c.order)
	return c
}

// Add takes an event.
func (c *Collector) Add(e *observing.Event) {
	switch {
	case e.What == "lost":
		c.AddGap(LostEvents(e.Node, e.Time, e.Lost))
	case e.Verdict != nil:
		for _, name := range e.Verdict.Policies {
			if k := c.by[name]; k != nil {
				k.add(c, e.Verdict)
			}
		}
	}
}

// AddGap notes that evidence is missing. It is told of the policies that it concerns: those that were as they are before it ended.
func (c *Collector) AddGap(g Gap) { c.gaps = append(c.gaps, g) }

func (k *collected) add(c *Collector, v *verdict.Event) {
	if v.Time.Before(c.from) || v.Time.After(c.to) {
		return
	}
	if v.Time.After(k.last) {
		k.last = v.Time
	}
	if v.Time.Before(k.report.From) {
		k.report.Before++
		return
	}
	switch v.Verdict {
	case verdict.Deny:
		k.report.Denied++
	case verdict.Audit:
		k.report.Count++
		for _, other := range v.Policies {
			if known := c.by[other]; known != nil && other != k.report.Policy && !slices.Contains(k.report.With, other) {
				k.report.With = append(k.report.With, other)
			}
		}
		r := c.request(v)
		if have := k.groups[r.key()]; have != nil {
			have.add(r)
		} else if len(k.groups) < mostGroups {
			k.groups[r.key()] = r
		} else {
			k.report.More++
		}
	case verdict.Allow, verdict.Drop: // not on the policy's account
	}
}

// statusDelay is how much earlier than an event the status may have it: it has no parts of seconds.
const statusDelay = time.Second

// finish makes the report of a policy.
func (k *collected) finish(gaps []Gap) PolicyReport {
	r := k.report
	r.WouldDeny = make([]Request, 0, len(k.groups))
	for _, g := range k.groups {
		r.WouldDeny = append(r.WouldDeny, *g)
	}
	slices.SortFunc(r.WouldDeny, func(a, b Request) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.key(), b.key()))
	})
	slices.Sort(r.With)
	for _, g := range gaps {
		if g.To.After(r.From) {
			r.Gaps = append(r.Gaps, g)
		}
	}
	if at := k.policy.Status.LastDenied; at != nil && at.After(r.From) && at.Add(-statusDelay).After(k.last) {
		r.Gaps = append(r.Gaps, Gap{To: at.Time, Why: fmt.Sprintf("the policy's status tells of a verdict at %s of which there is no event: "+
			"see whether Engine.spec.outputs leaves out the standard output", clock(at.Time))})
	}
	if r.Since.IsZero() {
		r.Gaps = append(r.Gaps, Gap{To: r.From, Why: "nothing tells since when the policy is as it is (it has no managedFields)"})
	}
	return r
}
