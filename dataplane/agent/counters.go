package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// count is what was denied or audited on account of one policy since an agent of the node began to count. The node's next start
// begins anew.
type count struct {
	Denied  int64     `json:"denied,omitempty"`
	Audited int64     `json:"audited,omitempty"`
	Last    time.Time `json:"last"`
}

// counters counts verdicts by policy, and keeps the counts in a file.
type counters struct {
	keptFile
	by map[string]count // by "namespace/name"
}

const (
	countersFile = "counters.json"
	// mostCounted bounds how many policies are counted: those that are gone are forgotten with each Sync.
	mostCounted = 10000
)

func loadCounters(stateDir string) (*counters, error) {
	c := &counters{keptFile: keptFile{path: filepath.Join(stateDir, countersFile)}, by: map[string]count{}}
	c.content = func() any { return c.by }
	if err := c.read(&c.by); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.by = map[string]count{}
		return c, fmt.Errorf("denials are counted anew: %w", err)
	}
	return c, nil
}

// add counts a verdict.
func (c *counters) add(e verdict.Event) {
	if e.Verdict != verdict.Deny && e.Verdict != verdict.Audit {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, policy := range e.Policies {
		n, known := c.by[policy]
		if !known && len(c.by) >= mostCounted {
			continue
		}
		if e.Verdict == verdict.Deny {
			n.Denied++
		} else {
			n.Audited++
		}
		n.Last = e.Time
		c.by[policy] = n
	}
	c.changed = true
}

// all gives the counts.
func (c *counters) all() map[string]count {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.by)
}

// forget drops the policies that do not exist any more.
func (c *counters) forget(exists map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for policy := range c.by {
		if !exists[policy] {
			delete(c.by, policy)
			c.changed = true
		}
	}
}
