package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/rawsocket"
)

// readyTimeout is how long a start may take until the command socket answers. Measured: 0.1 s with few rules, 11 s with 40,000.
const readyTimeout = 120 * time.Second

// endGrace is how long the engine may take to end in order; it needs 1.1 s.
const endGrace = 3 * time.Second

// supervision is what lives from Start to Stop.
type supervision struct {
	over    context.Context //nolint:containedctx // it ends with supervision
	cancel  context.CancelFunc
	running sync.WaitGroup
	owner   *os.File // this process supervises Dir
	server  *eventServer
	prober  *Prober
	wakers  []*rawsocket.Socket
}

// Start starts the engine, or adopts one that survived an earlier supervisor of the same Dir, and returns when it answers
// commands; Health tells when packets come through. It begins with the rules that stand in Dir, without any the first time: everything is dropped then. The engine is
// supervised until Stop or Detach. An Engine is started once.
//
// With a Launcher, Start does not wait for it, nor for an engine that cannot start yet: it returns, Health tells what is wrong, and
// the engine is started as soon as that is possible.
func (e *Engine) Start(ctx context.Context) error {
	e.life.Lock()
	defer e.life.Unlock()
	if err := e.lockRules(ctx); err != nil {
		return err
	}
	defer e.unlockRules()
	if e.over || e.supervision != nil {
		return errors.New("an Engine is started once; make another with New")
	}
	s := &supervision{}
	s.over, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := e.begin(ctx, s); err != nil {
		s.cancel()
		e.release(s)
		return fmt.Errorf("cannot start the engine on %s and %s: %w", e.cfg.A, e.cfg.B, err)
	}
	e.supervision = s
	run := s.over
	s.running.Go(func() { e.supervise(run) })
	if s.prober != nil {
		s.running.Go(func() { e.probe(run, s.prober) })
		s.running.Go(func() { e.killHung(run) })
	} else {
		e.state.probes(true)
	}
	if e.cfg.Kind == Detect {
		s.running.Go(func() { e.keepAsking(run) })
		s.running.Go(func() { e.killHung(run) })
	}
	return nil
}

// begin takes the locks, writes the files and brings the process up.
func (e *Engine) begin(ctx context.Context, s *supervision) error {
	p := paths(e.cfg.Dir)
	inode, err := netnsID(e.cfg.Netns)
	if err != nil {
		return err
	}
	if err := e.findInterfaces(); err != nil {
		return err
	}
	if s.owner, err = tryLock(p.owner()); errors.Is(err, errLocked) {
		return fmt.Errorf("another process supervises the engine in %s (it holds %s); stop it first", e.cfg.Dir, p.owner())
	} else if err != nil {
		return err
	}
	e.runner = e.newRunner(pairLockPath(e.cfg.LockDir, inode, e.cfg.A, e.cfg.B))
	adopted, err := e.claim(ctx)
	if err != nil {
		return err
	}
	if s.server, err = listenEvents(p.eventSocket(), e.events, e.cfg.OnRecord); err != nil {
		return err
	}
	if e.cfg.Agent != "" {
		s.prober, err = newProber(e.cfg.Netns, e.cfg.Agent, e.cfg.Slot, e.cfg.Threads, e.cfg.Probe, e.state.probes, e.cfg.OnDenied)
		if err != nil {
			return err
		}
	}
	e.server.Store(s.server)
	e.prober.Store(s.prober)
	s.wakers = openWakers(e.cfg.Netns, e.cfg.interfaces()...)
	e.supervision = s
	if adopted == nil {
		e.beforeStart(ctx)
		err = e.firstStart(ctx)
	} else {
		err = e.takeOver(ctx, adopted)
	}
	if err != nil && e.cfg.Launcher != "" {
		e.log.Error(err, "The engine does not run yet")
		if e.state.running() == nil {
			e.state.down(err.Error())
		}
		return nil
	}
	if err != nil {
		e.supervision = nil
		if p := e.state.running(); p != nil {
			_ = p.end(0)
		}
	}
	return err
}

func (e *Engine) beforeStart(ctx context.Context) {
	if e.cfg.BeforeStart != nil {
		e.cfg.BeforeStart(ctx)
	}
}

// newRunner says how Suricata is run.
func (e *Engine) newRunner(lockPath string) runner {
	if e.cfg.Launcher == "" {
		return &child{cfg: e.cfg, lockPath: lockPath, log: func(err error, message string) { e.log.Error(err, message) }}
	}
	l := newLaunched(e.cfg, lockPath)
	e.launched.Store(l)
	return l
}

// findInterfaces looks for the pair: the engine itself answers commands before it looks.
func (e *Engine) findInterfaces() error {
	return inNetns(e.cfg.Netns, func() error {
		var errs []error
		for _, name := range e.cfg.interfaces() {
			if _, err := net.InterfaceByName(name); err != nil {
				errs = append(errs, fmt.Errorf("interface %s: %w", name, err))
			}
		}
		return errors.Join(errs...)
	})
}

// claim takes the pair and writes the configuration, or finds the engine of an earlier supervisor that still runs with the same
// configuration. One that runs with another configuration, or that is not to survive, is ended.
func (e *Engine) claim(ctx context.Context) (*process, error) {
	running, err := e.cfg.suricataYAML()
	if err != nil {
		return nil, err
	}
	check, err := e.cfg.checkYAML()
	if err != nil {
		return nil, err
	}
	survivor, err := e.runner.claim(ctx)
	switch {
	case isUnreachable(err): // later, then
	case err != nil:
		return nil, err
	case survivor != nil:
		present, _ := readFile(e.cfg.Dir, yamlFile)
		if !e.cfg.KillWithParent && string(present) == string(running) && e.answers(ctx) {
			return survivor, writeFile(e.cfg.Dir, checkFile, check)
		}
		e.log.Info("Ending an engine that an earlier supervisor left", "pid", survivor.pid)
		if err := survivor.end(endGrace); err != nil {
			return nil, err
		}
	}
	return nil, e.writeFiles(running, check)
}

// answers tells whether an engine is there that takes commands.
func (e *Engine) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, min(CommandTimeout, e.cfg.HangTimeout))
	defer cancel()
	_, err := e.command.Version(ctx)
	return err == nil
}

// writeFiles writes all but the rules; without any rules it writes empty ones.
func (e *Engine) writeFiles(running, check []byte) error {
	p := paths(e.cfg.Dir)
	files := map[string][]byte{yamlFile: running, checkFile: check, emptyFile: nil}
	if e.cfg.Kind != Policy {
		files[classificationFile], files[referenceFile] = []byte(classifications), []byte(references)
	}
	for name, content := range files {
		if err := writeFile(e.cfg.Dir, name, content); err != nil {
			return fmt.Errorf("cannot write the engine's configuration: %w", err)
		}
	}
	if _, err := readManifest(p.rules()); err != nil {
		if err := writeRules(p.rules(), e.cfg.noRules()); err != nil {
			return fmt.Errorf("cannot write the first, empty rules: %w", err)
		}
	}
	return nil
}

// firstStart starts the process with the rules that an earlier supervisor left, and without any if it does not take them (an
// engine of another version, say): everything is dropped until Load then.
func (e *Engine) firstStart(ctx context.Context) error {
	err := e.bringUp(ctx)
	if err == nil || e.onDisk().Rules == 0 || ctx.Err() != nil || isUnreachable(err) {
		return err
	}
	e.log.Error(err, "The engine does not start with the rules of its last run; starting it without any")
	if p := e.state.running(); p != nil {
		if err := p.end(0); err != nil {
			return err
		}
	}
	if err := writeRules(paths(e.cfg.Dir).rules(), e.cfg.noRules()); err != nil {
		return fmt.Errorf("cannot write empty rules: %w", err)
	}
	return e.bringUp(ctx)
}

// bringUp starts the process and waits until it answers and has told that it has its rules. The caller holds the rules' turn.
func (e *Engine) bringUp(ctx context.Context) error {
	proc, err := e.runner.start(ctx, []string{"-c", paths(e.cfg.Dir).yaml(), "-l", e.cfg.engineDir(), "--af-packet"}, e.isFresh())
	if err != nil {
		return err
	}
	if err := e.waitReady(ctx, proc); err != nil {
		_ = proc.end(0)
		e.spoiled.Store(true)
		return err
	}
	if e.cfg.Kind != Policy {
		if err := writeFile(e.cfg.Dir, cachedFile, nil); err != nil {
			e.log.Error(err, "The engine's next start takes longer")
		}
	}
	err = e.verify(ctx)
	if err != nil && proc.ends(time.Second) { // it answers before it has looked at all of its settings
		e.spoiled.Store(true)
		return endedEarly(proc)
	}
	if err == nil {
		if since, err := e.command.ReloadTime(ctx); err == nil {
			e.remember(since)
		}
	}
	e.begun = true
	e.state.up(proc, e.onDisk(), err)
	e.log.Info("Engine started", "pid", proc.pid, "version", e.runner.version(), "took", time.Since(proc.started))
	return err
}

// takeOver makes an adopted process the present one. Unless it is known to have loaded the rules that stand in Dir, it is made to
// read them again: its supervisor may have died between the two.
func (e *Engine) takeOver(ctx context.Context, proc *process) error {
	e.state.up(proc, Loaded{}, errors.New("they have not been read back yet"))
	var err error
	if !e.hasItsRules(ctx) {
		err = e.reload(ctx)
	}
	e.begun = true
	e.state.up(proc, e.onDisk(), err)
	e.log.Info("Engine adopted", "pid", proc.pid, "running", time.Since(proc.started))
	return err
}

// onDisk is what an engine that read the rules directory has loaded.
func (e *Engine) onDisk() Loaded {
	m, _ := readManifest(paths(e.cfg.Dir).rules())
	return Loaded{Rules: m.Rules, Hash: m.Hash, At: time.Now(), Changed: true}
}

// startedMessage is what the engine logs when all its threads run.
const startedMessage = "Engine started."

// waitReady waits until the process answers commands and, when no probes will tell, until it takes in packets. It says so late:
// probes come through 0.2 s earlier, and then traffic waits for it. But the first time it may yet end over its settings, after it has
// answered.
func (e *Engine) waitReady(ctx context.Context, proc *process) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for started := e.cfg.Agent != "" && e.begun; ; {
		select {
		case <-proc.done:
			return endedEarly(proc)
		case <-ctx.Done():
			return fmt.Errorf("the engine does not start: %w", context.Cause(ctx))
		case <-tick.C:
		}
		if !started {
			started = bytes.Contains(proc.said(), []byte(startedMessage))
		}
		if started && e.answers(ctx) {
			return nil
		}
	}
}

func endedEarly(proc *process) error {
	return fmt.Errorf("the engine ended while it started (%s)%s", proc.how, lastErrors(proc.said()))
}

// Stop ends supervision and the engine. With the engine gone, nothing passes from A to B.
func (e *Engine) Stop(context.Context) error { return e.finish(true) }

// Detach ends supervision and leaves the engine running with its rules, for the next Start on the same Dir to adopt. With
// KillWithParent the engine dies with this process nevertheless.
func (e *Engine) Detach() error { return e.finish(false) }

func (e *Engine) finish(endProcess bool) error {
	e.life.Lock()
	defer e.life.Unlock()
	if e.over {
		return nil
	}
	e.over = true
	defer e.state.close()
	defer close(e.events)
	s := e.supervision
	if s == nil {
		return nil
	}
	s.cancel()
	s.running.Wait()
	// A Load that is under way gives up first.
	_ = turn(context.Background(), e.loadTurn)
	_ = e.lockRules(context.Background())
	e.supervision = nil
	e.unlockRules()
	<-e.loadTurn
	var err error
	if p := e.state.running(); p != nil && endProcess {
		grace := endGrace
		if e.cfg.KillWithParent {
			grace = 0 // it may be killed at any moment anyway, and has nothing to save
		}
		err = p.end(grace)
	}
	e.state.down("it was stopped")
	e.release(s)
	return err
}

// release gives back everything but the process.
func (e *Engine) release(s *supervision) {
	if e.runner != nil {
		e.runner.release()
	}
	if s.server != nil {
		s.server.close()
	}
	if s.prober != nil {
		_ = s.prober.socket.Close()
	}
	for _, w := range s.wakers {
		_ = w.Close()
	}
	if s.owner != nil {
		_ = s.owner.Close()
	}
}

func (e *Engine) lockRules(ctx context.Context) error { return turn(ctx, e.rulesTurn) }

// turn takes a token.
func turn(ctx context.Context, token chan<- struct{}) error {
	select {
	case token <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("gave up waiting for another load of rules: %w", context.Cause(ctx))
	}
}

func (e *Engine) unlockRules() { <-e.rulesTurn }
