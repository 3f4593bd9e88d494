package l7policy

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// record is what the runner keeps of a policy.
type record struct {
	uid        types.UID
	generation int64
	// findings are plan.Check's conditions for that generation.
	findings []metav1.Condition
	// desired are the nodes with selected Pods, sorted, and joined since when each has had some.
	desired []string
	joined  map[string]time.Time

	// last is the status that was last written, and version the resource version that came of it.
	last    *v1alpha1.L7PolicyStatus
	version string
	// written is when the status was last written, and counted when it was with counts that are new.
	written, counted time.Time
	// due is when to look again if nothing happens; zero for never.
	due time.Time
}

// current returns the policy's status: what the cache says or, if that is newer, what was written.
func (rec *record) current(object *v1alpha1.L7Policy) *v1alpha1.L7PolicyStatus {
	if rec.last != nil && newer(rec.version, object.ResourceVersion) {
		return rec.last
	}
	return &object.Status
}

// newer says whether version a of an object is newer than version b. Resource versions are numbers that grow.
func newer(a, b string) bool {
	x, errA := strconv.ParseUint(a, 10, 64)
	y, errB := strconv.ParseUint(b, 10, 64)
	return errA == nil && errB == nil && x > y
}

// decide says whether a status is to be written now. It may take back new counts, and notes when to look again.
func (rec *record) decide(have, want *v1alpha1.L7PolicyStatus, o Options, now time.Time) bool {
	rec.due = time.Time{}
	if !sameCounts(have, want) && now.Before(rec.counted.Add(o.CountInterval)) {
		rec.look(rec.counted.Add(o.CountInterval))
		want.Denied, want.Audited, want.LastDenied = have.Denied, have.Audited, have.LastDenied
	}
	for _, since := range rec.joined {
		if until := since.Add(o.JoinTime); now.Before(until) {
			rec.look(until)
		}
	}
	switch {
	case turns(have, want), !sameCounts(have, want):
		return true
	case sameRest(have, want):
		return false
	}
	// Nothing but numbers and texts: how far nodes have come.
	if next := rec.written.Add(o.ProgressInterval); now.Before(next) {
		rec.look(next)
		return false
	}
	return true
}

// look notes a time to look again.
func (rec *record) look(at time.Time) {
	if rec.due.IsZero() || at.Before(rec.due) {
		rec.due = at
	}
}

func sameCounts(a, b *v1alpha1.L7PolicyStatus) bool {
	return a.Denied == b.Denied && a.Audited == b.Audited && equality.Semantic.DeepEqual(a.LastDenied, b.LastDenied)
}

// turns says whether a condition has another status or reason, comes or goes, or is about another generation.
func turns(a, b *v1alpha1.L7PolicyStatus) bool {
	return a.ObservedGeneration != b.ObservedGeneration || !slices.EqualFunc(byType(a.Conditions), byType(b.Conditions), func(x, y metav1.Condition) bool {
		return x.Type == y.Type && x.Status == y.Status && x.Reason == y.Reason && x.ObservedGeneration == y.ObservedGeneration
	})
}

func sameRest(a, b *v1alpha1.L7PolicyStatus) bool {
	return equality.Semantic.DeepEqual(byType(a.Conditions), byType(b.Conditions)) && equality.Semantic.DeepEqual(a.Nodes, b.Nodes)
}

// byType sorts the conditions that are written here; what others add is not looked at.
func byType(all []metav1.Condition) []metav1.Condition {
	own := []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionResolvedRefs, plan.ConditionShadowed, plan.ConditionClientsHidden, v1alpha1.ConditionProgrammed,
		v1alpha1.ConditionDegraded, v1alpha1.ConditionReady, v1alpha1.ConditionStalled}
	kept := slices.DeleteFunc(slices.Clone(all), func(c metav1.Condition) bool { return !slices.Contains(own, c.Type) })
	slices.SortFunc(kept, func(a, b metav1.Condition) int { return cmp.Compare(a.Type, b.Type) })
	return kept
}
