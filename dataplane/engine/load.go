package engine

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

// How rules are loaded, and why so.
//
// A live reload alone is not safe, even if its result is read back and a bad one is rolled back at once. A firewall rule that
// does not parse makes the running engine exit(1) in the middle of the reload. And a detection rule that does not parse would, with
// init-failure-fatal off, leave the gate open without the rule that denies. So "suricata -T" runs first, always, on a copy. It takes
// 0.1 s of CPU for a handful of rules and 0.35 s for a thousand rule sets of seven rules, which is no more than what the reload itself
// takes. After the reload, the counts are read back all the same: a reload answers "done" whatever happened, and keeps the old
// rules when it failed, so that the time of the load must have changed as well.

// wakePeriod is how often both workers get a packet while a reload is under way. The engine looks for one millisecond whether
// each worker took up the new rules, and when not all have, it sleeps for 250 ms.
const wakePeriod = 500 * time.Microsecond

var (
	parseErrorMessage = regexp.MustCompile(`(?s)^error parsing signature "(.*)" from file (\S+) at line (\d+)$`)
	totalMessage      = regexp.MustCompile(`^\d+ rule files processed\. (\d+) rules successfully loaded, (\d+) rules failed`)
	skippedMessage    = regexp.MustCompile(`^\d+ rule files processed\. .* (\d+) rules skipped`)
)

// checkStaged has Suricata parse the staged rules. It returns a *LoadError when they are bad.
func (e *Engine) checkStaged(ctx context.Context, expected int) error {
	ctx, cancel := context.WithTimeout(ctx, ReloadTimeout)
	defer cancel()
	said, err := e.runner.check(ctx, []string{"-T", "-c", paths(e.cfg.Dir).checkYAML(), "-l", e.cfg.engineDir()})
	if err != nil {
		return fmt.Errorf("suricata -T did not end: %w", err)
	}
	return said.judge(expected)
}

// judge tells whether Suricata took all rules.
func (c checked) judge(expected int) error {
	err := c.failed
	failed, rest := failedRules(parseLog(c.stderr))
	loaded := -1
	for _, r := range parseLog(c.stdout) {
		if m := totalMessage.FindStringSubmatch(r.Engine.Message); m != nil {
			loaded, _ = strconv.Atoi(m[1])
		}
	}
	if loaded == -1 && expected == 0 && err == nil {
		loaded = 0 // without any rule there is no such message
	}
	if len(failed) == 0 && err == nil && loaded == expected {
		return nil
	}
	refused := &LoadError{Failed: failed, Expected: expected, Loaded: loaded}
	if len(failed) == 0 {
		refused.Reason = fmt.Sprintf("suricata -T loaded %d", loaded)
		if err != nil {
			refused.Reason = fmt.Sprintf("suricata -T: %v%s", err, quoteOutput([]byte(rest)))
		}
	}
	return refused
}

// maxReason is how long the reason for a refused rule may be, in bytes.
const maxReason = 2000

// failedRules reads the parse errors of Suricata's log: each rule's reasons come before the line that names it.
func failedRules(records []logRecord) (failed []FailedRule, rest string) {
	reason := ""
	for _, r := range records {
		if r.LogLevel != "Error" {
			continue
		}
		m := parseErrorMessage.FindStringSubmatch(r.Engine.Message)
		if m == nil {
			if reason != "" {
				reason += "; "
			}
			reason += launcher.Clean(r.Engine.Message, maxReason)
			reason = reason[:min(len(reason), maxReason)]
			continue
		}
		if reason == "" {
			reason = "it does not parse"
		}
		line, _ := strconv.Atoi(m[3])
		failed = append(failed, failedRuleOf(m[2], line, m[1], reason))
		reason = ""
	}
	return failed, reason
}

// Load makes the rules current. It returns when the running engine uses them, in every worker, and has told that it loaded them
// all; or it leaves the last good ones in force and returns a *LoadError. Other errors mean that it is not known whether the
// rules are good (no engine, no answer, no disk). Loads run one at a time; the same rules again cost nothing.
// While the engine is down, Load starts it. While the rules are checked, which with many of them takes most of the time of a load, the
// engine is supervised as ever: one that ends then is started again with the rules before.
//
// A context that ends gives up the check. Rules that a running engine has begun to load it loads to the end, unless Stop or Detach is called:
// to take them back would take as long.
func (e *Engine) Load(ctx context.Context, r Rules) (Loaded, error) {
	if err := turn(ctx, e.loadTurn); err != nil {
		return Loaded{}, err
	}
	defer func() { <-e.loadTurn }()
	start := time.Now()
	over, have, err := e.beginLoad(ctx, r)
	if err != nil || have.Hash != "" {
		return have, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(over, func() { cancel(errStopped) })()
	if err := e.load(ctx, over, r); err != nil {
		e.state.loadFailed(err)
		e.tellLoad(Loaded{Took: time.Since(start)}, err)
		return Loaded{}, err
	}
	loaded := Loaded{Rules: r.count(), Hash: r.hash(), At: time.Now(), Took: time.Since(start), Changed: true}
	e.state.loadSucceeded(loaded)
	e.tellLoad(loaded, nil)
	return loaded, nil
}

var errStopped = errors.New("the engine is no longer supervised")

// beginLoad tells whether there is anything to load: else it gives what is loaded. The context that it gives ends with supervision.
func (e *Engine) beginLoad(ctx context.Context, r Rules) (over context.Context, have Loaded, err error) {
	if err := e.lockRules(ctx); err != nil {
		return nil, Loaded{}, err
	}
	defer e.unlockRules()
	if e.supervision == nil {
		return nil, Loaded{}, errors.New("the engine is not started: call Start before Load")
	}
	if counted := r.count(); r.Expected != 0 && r.Expected != counted {
		err := &LoadError{Expected: r.Expected, Loaded: -1, Reason: fmt.Sprintf("the text has %d rules", counted)}
		e.state.loadFailed(err)
		return nil, Loaded{}, err
	}
	if have := e.state.loadedNow(); have.Hash == r.hash() && e.state.verified() {
		have.Changed = false
		return nil, have, nil
	}
	return e.supervision.over, Loaded{}, nil
}

func (e *Engine) tellLoad(l Loaded, err error) {
	if e.cfg.OnLoad != nil {
		e.cfg.OnLoad(l, err)
	}
}

func (e *Engine) load(ctx, over context.Context, r Rules) error {
	expected := r.count()
	if failed := r.check(); len(failed) > 0 {
		return &LoadError{Failed: failed, Expected: expected, Loaded: -1}
	}
	p := paths(e.cfg.Dir)
	if err := writeRules(p.stagedRules(), r); err != nil {
		return fmt.Errorf("cannot write the rules: %w", err)
	}
	if err := e.checkStaged(ctx, expected); err != nil {
		return err
	}
	if err := e.lockRules(ctx); err != nil {
		return err
	}
	defer e.unlockRules()
	if ctx.Err() != nil {
		return fmt.Errorf("gave up before the engine had the rules: %w", context.Cause(ctx))
	}
	if err := exchange(p.stagedRules(), p.rules()); err != nil {
		return err
	}
	err := e.apply(ctx, over)
	if err == nil || over.Err() != nil {
		return err // without a supervisor, the next one finds the new rules, which are checked
	}
	// Take them back. The caller may have given up already; what is in force must be known all the same.
	if back := exchange(p.stagedRules(), p.rules()); back != nil {
		return errors.Join(err, back)
	}
	// When the engine is down, its supervisor starts it with the rules that stand there now.
	if e.state.running() == nil {
		return err
	}
	if back := e.reload(over); back != nil {
		return errors.Join(err, fmt.Errorf("and the last good rules could not be loaded again: %w", back))
	}
	if refused := (*LoadError)(nil); errors.As(err, &refused) {
		refused.RolledBack = true
	}
	return err
}

// apply brings the rules that stand in the rules directory into force. A start ends with the first context, a reload with the second.
func (e *Engine) apply(ctx, over context.Context) error {
	if e.state.running() == nil {
		return e.bringUp(ctx)
	}
	return e.reload(over)
}

// reload reloads the running engine and verifies what it has then.
func (e *Engine) reload(ctx context.Context) error {
	before, err := e.command.ReloadTime(ctx)
	if err != nil {
		return err
	}
	e.trimLog()
	err = e.wakeWhile(func() error { return e.command.ReloadRules(ctx) })
	if err != nil {
		return err
	}
	after, err := e.command.ReloadTime(ctx)
	if err != nil {
		return err
	}
	if err := e.verify(ctx); err != nil {
		return err
	}
	if after == before {
		return &LoadError{Expected: e.expected(), Loaded: -1, Reason: "the engine kept its rules; see " + e.cfg.logPlace()}
	}
	e.remember(after)
	return nil
}

// verify compares what the running engine has loaded with the manifest of the rules directory.
func (e *Engine) verify(ctx context.Context) error {
	stats, err := e.command.RulesetStats(ctx)
	if err != nil {
		return err
	}
	expected := e.expected()
	if stats.Loaded == expected && stats.Failed == 0 && stats.Skipped == 0 {
		return nil
	}
	refused := &LoadError{Expected: expected, Loaded: stats.Loaded}
	failed, err := e.command.FailedRules(ctx)
	if err != nil {
		return errors.Join(refused, err)
	}
	for _, f := range failed {
		refused.Failed = append(refused.Failed, failedRuleOf(f.Filename, f.Line, f.Rule, f.Error))
	}
	return refused
}

// expected counts the rules that stand in the rules directory; -1, which no engine has, when that cannot be told.
func (e *Engine) expected() int {
	m, err := readManifest(paths(e.cfg.Dir).rules())
	if err != nil {
		return -1
	}
	return m.Rules
}

// Loaded reads back from the running engine what it has loaded, and compares it with what it should have: an error means that
// the two differ, or that the engine does not answer.
func (e *Engine) Loaded(ctx context.Context) (Loaded, error) {
	if err := e.lockRules(ctx); err != nil {
		return Loaded{}, err
	}
	defer e.unlockRules()
	if err := e.verify(ctx); err != nil {
		return Loaded{}, err
	}
	return e.state.loadedNow(), nil
}

// wakeWhile keeps both workers busy with packets while f runs, so that a reload does not wait for traffic.
func (e *Engine) wakeWhile(f func() error) error {
	wakers := e.supervision.wakers
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(wakePeriod)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				e.wake(wakers)
			}
		}
	}()
	err := f()
	close(stop)
	<-stopped
	return err
}

// exchange swaps two directories in one step, so that there is no moment without rules.
func exchange(a, b string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("cannot swap the rule directories %s and %s: %w", a, b, err)
	}
	return nil
}
