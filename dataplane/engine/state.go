package engine

import (
	"fmt"
	"sync"
	"time"
)

// Health tells whether packets come through an engine that has the right rules.
type Health struct {
	Healthy bool
	// Reason is a sentence; empty when healthy.
	Reason string
	Since  time.Time
}

// Status is what metrics and status objects tell of the engine.
type Status struct {
	Health    Health
	Version   string
	PID       int // 0 when it does not run
	StartedAt time.Time
	Restarts  int // by supervision, since Start
	Loaded    Loaded
	// LastLoadError is nil after a Load that succeeded.
	LastLoadError error
	// Events counts events delivered; EventsLost those that a slow reader lost; EventsBad lines that made no sense.
	Events, EventsLost, EventsBad uint64
	// RTT is that of the last in-band probe that came back; ProbesSent and ProbesLost count.
	RTT                    time.Duration
	ProbesSent, ProbesLost uint64
}

// state is what the engine's goroutines know together.
type state struct {
	mu      sync.Mutex
	proc    *process
	isGood  bool   // the running process has the rules of the rules directory
	notGood string // why not
	probed  bool   // probes come back
	// inspected is the last process that was healthy.
	inspected *process
	restarts  int
	loaded    Loaded
	loadErr   error
	health    Health
	changes   chan Health
	closed    bool
}

func newState() *state {
	return &state{
		notGood: "it has not been started",
		health:  Health{Reason: "the engine has not been started", Since: time.Now()},
		changes: make(chan Health, 1),
	}
}

// running is the present process, or nil.
func (s *state) running() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || !s.proc.running() {
		return nil
	}
	return s.proc
}

// hasInspected tells whether a process was healthy at any time.
func (s *state) hasInspected(p *process) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inspected == p
}

// verified tells that the running process has the rules it should have.
func (s *state) verified() bool {
	p := s.running()
	s.mu.Lock()
	defer s.mu.Unlock()
	return p != nil && s.isGood
}

func (s *state) loadedNow() Loaded {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loaded
}

func (s *state) loadFailed(err error) { s.change(func() { s.loadErr = err }) }

func (s *state) loadSucceeded(l Loaded) {
	s.change(func() { s.loaded, s.loadErr, s.isGood, s.notGood = l, nil, true, "" })
}

// up records a process and whether it has its rules.
func (s *state) up(p *process, loaded Loaded, err error) {
	s.change(func() {
		s.proc, s.isGood, s.notGood = p, err == nil, ""
		if err != nil {
			s.notGood = fmt.Sprintf("it does not have the rules it should have: %v", err)
			return
		}
		s.loaded = loaded
	})
}

// restarted counts a restart.
func (s *state) restarted() { s.change(func() { s.restarts++ }) }

// down records that there is no process.
func (s *state) down(reason string) {
	s.change(func() { s.proc, s.isGood, s.notGood = nil, false, reason })
}

// ended records that this process is gone; another may have taken its place already. Where there are probes, they must come back
// again before the next one counts as healthy.
func (s *state) ended(p *process, reason string, probes bool) {
	s.change(func() {
		if s.proc == p {
			s.proc, s.isGood, s.notGood = nil, false, reason
			s.probed = s.probed && !probes
		}
	})
}

// probes records whether probes come back.
func (s *state) probes(ok bool) { s.change(func() { s.probed = ok }) }

// change changes the state and tells a change of health.
func (s *state) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	now := Health{Healthy: s.isGood && s.probed, Since: s.health.Since}
	switch {
	case now.Healthy:
		s.inspected = s.proc
	case !s.isGood:
		now.Reason = "the engine does not inspect: " + s.notGood
	default:
		now.Reason = "packets do not come through the engine: no probe came back in time"
	}
	if now.Healthy != s.health.Healthy {
		now.Since = time.Now()
		s.health = now
		s.tell()
	}
	s.health.Reason = now.Reason
}

// tell replaces what the reader has not read yet.
func (s *state) tell() {
	if s.closed {
		return
	}
	select {
	case <-s.changes:
	default:
	}
	s.changes <- s.health
}

// close ends the changes.
func (s *state) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.changes)
	}
}
