package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
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

// counters counts verdicts by policy, and keeps the counts in a file: an agent that is killed loses those of the last countersEvery.
type counters struct {
	path string

	mu      sync.Mutex
	by      map[string]count // by "namespace/name"
	changed bool             // since the file was written
	stopped bool             // the file is not to come back
}

const (
	countersFile  = "counters.json"
	countersEvery = 2 * time.Second
	// mostCounted bounds how many policies are counted: those that are gone are forgotten with each Sync.
	mostCounted = 10000
)

func loadCounters(stateDir string) (*counters, error) {
	c := &counters{path: filepath.Join(stateDir, countersFile), by: map[string]count{}}
	text, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &c.by)
	}
	if err != nil {
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

// keep writes the file now and then, and when ctx ends.
func (c *counters) keep(ctx context.Context) {
	tick := time.NewTicker(countersEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			c.save()
			return
		case <-tick.C:
			c.save()
		}
	}
}

// save writes the file when something has changed. What cannot be written now is written the next time.
func (c *counters) save() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.changed || c.stopped {
		return
	}
	if text, err := json.Marshal(c.by); err == nil && writeWhole(c.path, text) == nil {
		c.changed = false
	}
}

// stop writes nothing any more.
func (c *counters) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
}
