package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
)

// alertCounts counts alerts by inspection and by rule set, and keeps the counts in a file. It also knows which revision
// of each rule set the node's engines loaded last: what an agent that starts falls back on.
type alertCounts struct {
	keptFile
	by      alertRecords
	changes uint64 // counts what is worth a report
}

// alertRecords are by "namespace/name", or "cluster/name" for a ClusterRuleSet.
type alertRecords struct {
	Inspections map[string]inspectionRecord `json:"inspections,omitempty"`
	RuleSets    map[string]ruleSetRecord    `json:"ruleSets,omitempty"`
}

// inspectionRecord is what an inspection's engines have raised since an agent of the node began to count.
type inspectionRecord struct {
	Alerts v1alpha1.AlertCounts `json:"alerts"`
	// Signatures are those that matched last, in no order; at most mostSignatures.
	Signatures []v1alpha1.SignatureCount `json:"signatures,omitempty"`
}

// ruleSetRecord is what became of the revision that engines have loaded.
type ruleSetRecord struct {
	Revision string    `json:"revision"`
	Loaded   time.Time `json:"loaded"`
	Alerts   int64     `json:"alerts,omitempty"`
	Drops    int64     `json:"drops,omitempty"`
}

const (
	alertCountsFile = "alerts.json"
	// mostSignatures is how many signatures of an inspection are counted: those that a report tells, and some that may come back.
	mostSignatures = 50
	toldSignatures = 10
)

func loadAlertCounts(stateDir string) (*alertCounts, error) {
	c := &alertCounts{keptFile: keptFile{path: filepath.Join(stateDir, alertCountsFile)}}
	c.content = func() any { return c.by }
	err := c.read(&c.by)
	if err != nil {
		c.by = alertRecords{}
	}
	if c.by.Inspections == nil {
		c.by.Inspections = map[string]inspectionRecord{}
	}
	if c.by.RuleSets == nil {
		c.by.RuleSets = map[string]ruleSetRecord{}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, fmt.Errorf("alerts are counted anew: %w", err)
	}
	return c, nil
}

// add counts an alert.
func (c *alertCounts) add(e *alerts.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range e.Inspections {
		if _, known := c.by.Inspections[name]; known || len(c.by.Inspections) < mostCounted {
			r := c.by.Inspections[name]
			r.add(e)
			c.by.Inspections[name] = r
		}
	}
	for _, set := range e.RuleSets {
		r, known := c.by.RuleSets[set.Name]
		if !known || r.Revision != set.Revision {
			continue // of a revision that has just been loaded, or is not any more
		}
		r.Alerts++
		if e.Action == alerts.Dropped {
			r.Drops++
		}
		c.by.RuleSets[set.Name] = r
	}
	c.changes++
	c.changed = true
}

func (r *inspectionRecord) add(e *alerts.Event) {
	at := metav1.NewTime(e.Time.UTC().Truncate(time.Second))
	r.Alerts.Total++
	switch e.Signature.Severity {
	case 1:
		r.Alerts.High++
	case 2:
		r.Alerts.Medium++
	default:
		r.Alerts.Low++
	}
	if e.Action == alerts.Dropped {
		r.Alerts.Dropped++
	}
	r.Alerts.Last = &at
	i := slices.IndexFunc(r.Signatures, func(s v1alpha1.SignatureCount) bool { return s.SID == int64(e.Signature.SID) })
	s := v1alpha1.SignatureCount{SID: int64(e.Signature.SID)}
	if i >= 0 {
		s = r.Signatures[i]
	}
	s.Rev, s.Message, s.Severity, s.Count, s.Last = int64(e.Signature.Rev), cut(e.Signature.Message, 512), int32(e.Signature.Severity), s.Count+1, &at
	r.Signatures = slices.Clone(r.Signatures) // a report may read the old one
	switch {
	case i >= 0:
		r.Signatures[i] = s
	case len(r.Signatures) < mostSignatures:
		r.Signatures = append(r.Signatures, s)
	default:
		oldest := slices.MinFunc(r.Signatures, func(a, b v1alpha1.SignatureCount) int { return a.Last.Compare(b.Last.Time) })
		r.Signatures[slices.Index(r.Signatures, oldest)] = s
	}
}

// last are the signatures that matched last, the latest first.
func (r *inspectionRecord) last() []v1alpha1.SignatureCount {
	all := slices.Clone(r.Signatures)
	slices.SortStableFunc(all, func(a, b v1alpha1.SignatureCount) int { return b.Last.Compare(a.Last.Time) })
	return all[:min(len(all), toldSignatures)]
}

// loaded notes which revisions engines have loaded, by rule set, and since when. Of another revision than before, counting begins anew.
func (c *alertCounts) loaded(now map[string]ruleSetRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for set, r := range now {
		if c.by.RuleSets[set].Revision != r.Revision {
			c.by.RuleSets[set] = ruleSetRecord{Revision: r.Revision, Loaded: r.Loaded}
			c.changes++
			c.changed = true
		}
	}
}

// all gives the counts.
func (c *alertCounts) all() alertRecords {
	c.mu.Lock()
	defer c.mu.Unlock()
	return alertRecords{maps.Clone(c.by.Inspections), maps.Clone(c.by.RuleSets)}
}

// version is a number that is another one when the counts have changed.
func (c *alertCounts) version() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes
}

// held is the revision of a rule set that engines loaded last; empty for none.
func (c *alertCounts) held(set string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by.RuleSets[set].Revision
}

// forget drops the inspections that do not exist any more, and the rule sets that the node does not need any more.
func (c *alertCounts) forget(inspection, ruleSet func(string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.by.Inspections) + len(c.by.RuleSets)
	maps.DeleteFunc(c.by.Inspections, func(name string, _ inspectionRecord) bool { return !inspection(name) })
	maps.DeleteFunc(c.by.RuleSets, func(name string, _ ruleSetRecord) bool { return !ruleSet(name) })
	c.changed = c.changed || before != len(c.by.Inspections)+len(c.by.RuleSets)
}
