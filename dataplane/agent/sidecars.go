package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

// sidecars is what the engines in the node's Pods have reported.
type sidecars struct {
	mu sync.Mutex
	by map[sidecarKey]sidecarState
}

// sidecarKey is an inspection's sidecar in a Pod.
type sidecarKey struct {
	pod        types.UID
	inspection string
}

// sidecarState is what a sidecar has reported last.
type sidecarState struct {
	started    time.Time
	heard      time.Time
	inspecting bool
	content    string
	ruleSets   []sidecar.RuleSet
	reason     string
	message    string
	// lost and dropped are the sidecar's own counts; trouble is when they last grew.
	lost, dropped uint64
	trouble       time.Time
	// tokens are the alerts that are taken at once now.
	tokens float64
}

const (
	// silentAfter is how long a sidecar may be silent before it counts as away.
	silentAfter = 3 * sidecar.Beat
	// troubledFor is how long alerts that were lost are told of.
	troubledFor = 5 * time.Minute
	// mostSidecars bounds what is remembered: a node has some hundred Pods.
	mostSidecars = 4096
	// Alerts of one sidecar: so many at once, and so many a second in the long run. Further ones are lost, and told of.
	sidecarBurst, sidecarRate = 2000, 200
)

// take notes a report, and gives how many of its alerts are taken.
func (s *sidecars) take(key sidecarKey, r *sidecar.Report, now time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[sidecarKey]sidecarState{}
	}
	have, known := s.by[key]
	if !known && len(s.by) >= mostSidecars {
		return 0
	}
	if !known || !have.started.Equal(r.Started) {
		have = sidecarState{started: r.Started, tokens: sidecarBurst}
	}
	have.tokens = min(sidecarBurst, have.tokens+now.Sub(have.heard).Seconds()*sidecarRate)
	taken := min(len(r.Alerts), int(have.tokens))
	have.tokens -= float64(taken)
	if r.Lost > have.lost || r.Dropped > have.dropped || taken < len(r.Alerts) {
		have.trouble = now
	}
	have.heard, have.lost, have.dropped = now, r.Lost, r.Dropped
	have.inspecting, have.content, have.ruleSets, have.reason, have.message = r.Inspecting, r.Content, r.RuleSets, r.Reason, r.Message
	if r.Ending {
		have.heard = time.Time{}
	}
	s.by[key] = have
	return taken
}

// all gives the states, and forgets those of Pods that are gone.
func (s *sidecars) all(exists func(types.UID) bool) map[sidecarKey]sidecarState {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.by, func(key sidecarKey, _ sidecarState) bool { return !exists(key.pod) })
	return maps.Clone(s.by)
}

// glance is another text when a report would be another one.
func (s *sidecars) glance(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for key, have := range s.by {
		lines = append(lines, fmt.Sprintln(key, have.inspecting, have.content, have.reason, have.message, now.Sub(have.heard) > silentAfter, now.Sub(have.trouble) > troubledFor))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
