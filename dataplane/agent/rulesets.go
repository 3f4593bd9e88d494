package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// ruleSet is what the API server says of a RuleSet or ClusterRuleSet, and what the node does with it.
type ruleSet struct {
	name   plan.SignatureRef // without a revision
	status *v1alpha1.RuleSetStatus
	// needed tells that an inspection of the node's Pods names it.
	needed bool
	// target is the revision that the node is to run; empty for none.
	target string
	// chosen is the one that it takes; another one than target, or none, for the reason why.
	chosen string
	why    *trouble
}

// trouble is a reason in one word and in sentences.
type trouble struct{ reason, message string }

// Reasons why a node does not run the revision of a rule set that it is to run.
const (
	// ReasonRevisionNotRead: the API server has not given it.
	ReasonRevisionNotRead = "RevisionNotRead"
	// ReasonNotLoaded: no engine has loaded it yet.
	ReasonNotLoaded = "NotLoaded"
)

// withheldFor is how long a revision that an engine has not loaded is not tried again, where that may have been for want of memory or of
// time: with many rules, each attempt takes a core for half a minute. One that it refuses is not tried again at all.
const withheldFor = 10 * time.Minute

// withheld are the revisions that engines of this node have refused, by the rule set's label.
type withheld struct {
	mu sync.Mutex
	by map[string]withheldRevision
}

type withheldRevision struct {
	revision, why string
	until         time.Time // zero for good
}

func (r *withheldRevision) String() string {
	if r.until.IsZero() {
		return r.why
	}
	return fmt.Sprintf("%s; it is tried again at %s", r.why, r.until.UTC().Format(time.RFC3339))
}

// of says why a revision is not tried, and until when; nil when it may be.
func (w *withheld) of(set, revision string, now time.Time) *withheldRevision {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r, ok := w.by[set]; ok && r.revision == revision && (r.until.IsZero() || now.Before(r.until)) {
		return &r
	}
	return nil
}

func (w *withheld) add(set string, r withheldRevision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[string]withheldRevision{}
	}
	w.by[set] = r
}

func (w *withheld) forget(exists func(string) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for set := range w.by {
		if !exists(set) {
			delete(w.by, set)
		}
	}
}

// ruleSets chooses the revisions of the rule sets that the node's Pods need, and gives them sorted by name.
func (a *Agent) ruleSets(ctx context.Context, pods []corev1.Pod, inspections []v1alpha1.TrafficInspection) ([]ruleSet, error) {
	var sets v1alpha1.RuleSetList
	var clusterSets v1alpha1.ClusterRuleSetList
	if err := errors.Join(a.cluster.cache.List(ctx, &sets), a.cluster.cache.List(ctx, &clusterSets)); err != nil {
		return nil, err
	}
	needed := neededRuleSets(pods, inspections)
	all := make([]ruleSet, 0, len(sets.Items)+len(clusterSets.Items))
	for i := range sets.Items {
		name := plan.SignatureRef{Kind: plan.KindRuleSet, Namespace: sets.Items[i].Namespace, Name: sets.Items[i].Name}
		all = append(all, ruleSet{name: name, status: &sets.Items[i].Status, needed: needed[name]})
	}
	for i := range clusterSets.Items {
		name := plan.SignatureRef{Kind: plan.KindClusterRuleSet, Name: clusterSets.Items[i].Name}
		all = append(all, ruleSet{name: name, status: &clusterSets.Items[i].Status, needed: needed[name]})
	}
	slices.SortFunc(all, func(x, y ruleSet) int {
		return cmp.Or(cmp.Compare(x.name.Kind, y.name.Kind), cmp.Compare(x.name.Namespace, y.name.Namespace), cmp.Compare(x.name.Name, y.name.Name))
	})
	wanted := map[string]bool{}
	for i := range all {
		s := &all[i]
		if s.validates(a.cfg.Node) {
			wanted[s.status.Rollout.Revision] = true
		}
		if !s.needed {
			continue
		}
		s.target = s.status.RunsRevision(a.cfg.Node)
		// A canary keeps what it is to go back to, and every node what it runs.
		wanted[s.target], wanted[s.status.Revision], wanted[a.alerts.held(s.name.Label())] = true, true, true
	}
	delete(wanted, "")
	a.revisions.want(wanted)
	for i := range all {
		if all[i].needed {
			a.choose(&all[i], time.Now())
		}
	}
	return all, nil
}

// choose decides which revision of a rule set the node takes: the one that it is to run, or for want of that the one that its engines
// loaded last.
func (a *Agent) choose(s *ruleSet, now time.Time) {
	if s.target == "" {
		return // the manager has none, and has perhaps taken back the only one that there was
	}
	label := s.name.Label()
	refused := a.withheld.of(label, s.target, now)
	if refused == nil {
		_, err := a.revisions.of(s.target)
		if err == nil {
			s.chosen = s.target
			return
		}
		reason := ReasonRevisionNotRead
		if errors.Is(err, errReading) {
			reason = ReasonNotLoaded
		}
		s.why = &trouble{reason, fmt.Sprintf("the revision %s is not here: %s", s.target, err)}
	} else {
		s.why = &trouble{node.ReasonRulesRefused, refused.String()}
	}
	if held := a.alerts.held(label); held != "" && held != s.target {
		if _, err := a.revisions.of(held); err == nil {
			s.chosen = held
		}
	}
}

// chosenRevisions are what the plan is made of.
func (a *Agent) chosenRevisions(sets []ruleSet) []plan.SignatureRevision {
	var all []plan.SignatureRevision
	for i := range sets {
		s := &sets[i]
		if s.chosen == "" {
			continue
		}
		here, err := a.revisions.of(s.chosen)
		if err != nil {
			continue
		}
		all = append(all, plan.SignatureRevision{
			Kind: s.name.Kind, Namespace: s.name.Namespace, Name: s.name.Name, Revision: s.chosen, Variables: here.Variables, Rules: here.Rules,
		})
	}
	return all
}

// neededRuleSets are those that inspections of the node's Pods name.
func neededRuleSets(pods []corev1.Pod, inspections []v1alpha1.TrafficInspection) map[plan.SignatureRef]bool {
	needed := map[plan.SignatureRef]bool{}
	for i := range inspections {
		o := &inspections[i]
		if o.Spec.Placement == v1alpha1.PlacementSidecar {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(&o.Spec.PodSelector)
		if err != nil || !slices.ContainsFunc(pods, func(p corev1.Pod) bool {
			return p.Namespace == o.Namespace && !p.Spec.HostNetwork && selector.Matches(labels.Set(p.Labels))
		}) {
			continue
		}
		for j := range o.Spec.RuleSets {
			name := plan.SignatureRef{Kind: o.Spec.RuleSets[j].KindOf(), Namespace: o.Namespace, Name: o.Spec.RuleSets[j].Name}
			if name.Kind == plan.KindClusterRuleSet {
				name.Namespace = ""
			}
			needed[name] = true
		}
	}
	return needed
}

// noteSignatures takes in what became of the rule sets in a Sync. It tells whether another Sync is to follow at once, since what is chosen
// has changed.
func (a *Agent) noteSignatures(n *node.Node, s *synced) (again bool) {
	a.alerts.loaded(loadedRevisions(n.SignatureEngines()))
	r := s.outcome.Report
	if r == nil || r.Plan == nil {
		return false
	}
	for key, err := range r.Signatures {
		refused, lasting := node.Refused(err)
		if !refused || r.Plan.Profile(key) == nil {
			continue
		}
		var until time.Time
		if !lasting {
			until = time.Now().Add(withheldFor)
		}
		for _, ref := range r.Plan.Profile(key).RuleSets {
			held := a.alerts.held(ref.Label())
			if ref.Revision == held {
				continue // what is wrong is another one
			}
			a.withheld.add(ref.Label(), withheldRevision{ref.Revision, cut(err.Error(), 1024), until})
			again = true
		}
	}
	return again
}

// loadedRevisions are the revisions that all engines which have a rule set have loaded; a rule set of which they have different ones, as
// while they change over, is left out.
func loadedRevisions(engines []node.SignatureEngine) map[string]ruleSetRecord {
	now := map[string]ruleSetRecord{}
	differ := map[string]bool{}
	for i := range engines {
		for _, ref := range engines[i].RuleSets {
			have, ok := now[ref.Label()]
			if ok && have.Revision != ref.Revision {
				differ[ref.Label()] = true
			}
			if !ok || have.Loaded.Before(engines[i].LoadedAt) {
				now[ref.Label()] = ruleSetRecord{Revision: ref.Revision, Loaded: engines[i].LoadedAt}
			}
		}
	}
	for set := range differ {
		delete(now, set)
	}
	return now
}

// validates tells whether a node is to validate the newest revision.
func (s *ruleSet) validates(name string) bool {
	r := s.status.Rollout
	return r != nil && r.Phase == v1alpha1.RolloutValidating && r.Validator == name && r.Revision != ""
}
