package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/go-logr/logr"
)

// Engine is one supervised Suricata, inline on a pair of interfaces. Its methods may be called from several goroutines.
type Engine struct {
	cfg     Config
	log     logr.Logger
	command *commandClient
	state   *state
	runner  runner // set by Start

	// rulesTurn holds one token: who has it may change the rules directory, start a process, or read both in one piece. loadTurn holds
	// another: who has it may write rules aside and have them checked. It is taken first.
	rulesTurn   chan struct{}
	loadTurn    chan struct{}
	supervision *supervision // nil: not started; guarded by rulesTurn
	complaint   string       // what was logged last about a launcher that does not answer; guarded by rulesTurn
	events      chan Event
	begun       bool        // a process has run with these settings; guarded by rulesTurn
	spoiled     atomic.Bool // the last process ended before it inspected

	// For Status, which must not wait for a load.
	server   atomic.Pointer[eventServer]
	prober   atomic.Pointer[Prober]
	launched atomic.Pointer[launched] // nil without a launcher

	life sync.Mutex // Start, Stop and Detach run one at a time
	over bool       // stopped or detached; guarded by life
}

// New checks the configuration and looks for the program; it starts nothing and touches no file. It refuses a Suricata that is too
// old.
func New(cfg Config, log logr.Logger) (*Engine, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.Launcher != "": // which knows better
	case cfg.Binary.Path == "":
		cfg.Binary, err = Find(context.Background())
	case cfg.Binary.Version == "":
		cfg.Binary, err = Inspect(context.Background(), cfg.Binary.Path)
	}
	if err != nil {
		return nil, err
	}
	return &Engine{
		cfg: cfg, log: log, state: newState(), rulesTurn: make(chan struct{}, 1), loadTurn: make(chan struct{}, 1),
		command: cfg.command(),
		events:  make(chan Event, cfg.EventBuffer),
	}, nil
}

// Events delivers what the engine reports. It is closed by Stop and Detach. Events that find the buffer full are lost and counted.
func (e *Engine) Events() <-chan Event { return e.events }

// Health is the present state.
func (e *Engine) Health() Health {
	e.state.mu.Lock()
	defer e.state.mu.Unlock()
	return e.state.health
}

// HealthChanges delivers the new state after each change; a slow reader gets only the newest. It is closed by Stop and Detach.
func (e *Engine) HealthChanges() <-chan Health { return e.state.changes }

// Inject sends a whole Ethernet frame out of the agent's interface, to the bridge. It fails without Config.Agent, or before Start.
func (e *Engine) Inject(frame []byte) error {
	p := e.prober.Load()
	if p == nil {
		return errors.New("the engine has no interface to the agent: set Config.Agent, and start it")
	}
	return p.Inject(frame)
}

// ForgetProbes tells that probes which did not come back were lost elsewhere: the engine counts as healthy again as soon as some do.
func (e *Engine) ForgetProbes() {
	if p := e.prober.Load(); p != nil && !p.healthy.Load() {
		p.Forget()
	}
}

// Counters reads the engine's own counters, as a tree ("decoder" → "pkts").
func (e *Engine) Counters(ctx context.Context) (map[string]any, error) {
	return e.command.DumpCounters(ctx)
}

// Status tells what metrics and status objects need.
func (e *Engine) Status() Status {
	e.state.mu.Lock()
	st := Status{
		Health: e.state.health, Version: e.version(), Restarts: e.state.restarts,
		Loaded: e.state.loaded, LastLoadError: e.state.loadErr,
	}
	if p := e.state.proc; p != nil && p.running() {
		st.PID, st.StartedAt = p.pid, p.started
	}
	e.state.mu.Unlock()
	if s := e.server.Load(); s != nil {
		st.Events, st.EventsLost, st.EventsBad = s.delivered.Load(), s.lost.Load(), s.bad.Load()
	}
	if p := e.prober.Load(); p != nil {
		st.RTT = p.RTT()
		st.ProbesSent, st.ProbesLost = p.Counts()
	}
	return st
}

func (e *Engine) version() string {
	if l := e.launched.Load(); l != nil {
		return l.version()
	}
	return e.cfg.Binary.Version
}
