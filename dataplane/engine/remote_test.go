package engine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

// suricataUID is who Suricata runs as in these tests.
const suricataUID = 65532

// testLauncher is a launcher in a process of its own, as in its container.
type testLauncher struct {
	cmd  *exec.Cmd
	said *bytes.Buffer
}

// TestLauncherProcess is no test: the others run it as the launcher.
func TestLauncherProcess(t *testing.T) {
	dir := os.Getenv("MEERKAT_TEST_LAUNCHER")
	if dir == "" {
		t.Skip("only as a process of other tests")
	}
	s := &launcher.Server{Place: launcher.Place{Root: dir}, Program: os.Getenv("MEERKAT_TEST_PROGRAM"), User: suricataUID, Log: os.Stderr}
	if s.Program == "" {
		s.Program = requireSuricata(t).Path
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s.Family = &launcher.Family{}
	go s.Family.Reap(ctx)
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func (n *testNet) startLauncher(t *testing.T, dir string, env ...string) *testLauncher {
	t.Helper()
	l := &testLauncher{cmd: exec.Command(os.Args[0], "-test.run", "^TestLauncherProcess$"), said: &bytes.Buffer{}}
	l.cmd.Env = append(append(os.Environ(), "MEERKAT_TEST_LAUNCHER="+dir), env...)
	l.cmd.Stderr = l.said
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := inNetns(n.node, l.cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.kill()
		if t.Failed() {
			t.Logf("the launcher said:\n%s", l.said)
		}
	})
	waitFor(t, 5*time.Second, "listening", func() bool {
		_, err := launcher.Client{Place: launcher.Place{Root: dir}}.Status(t.Context())
		return err == nil
	})
	return l
}

func (l *testLauncher) kill() {
	_ = l.cmd.Process.Kill()
	_ = l.cmd.Wait()
}

// remoteConfig is an engine's on this net whose Suricata a launcher runs.
func (n *testNet) remoteConfig(t *testing.T) Config {
	t.Helper()
	cfg := n.config(t)
	cfg.KillWithParent, cfg.Binary = false, Binary{}
	cfg.Launcher = launcher.Socket(cfg.Dir)
	if err := os.Chmod(cfg.Dir, 0o755); err != nil { // as a directory of the node's is
		t.Fatal(err)
	}
	return cfg
}

// enginePID is the engine's process number, as this process sees it.
func enginePID(t *testing.T, e *Engine) int {
	t.Helper()
	pid := e.Status().PID
	if pid == 0 {
		t.Fatal("no engine runs")
	}
	return pid
}

func TestLauncher(t *testing.T) {
	whole := t // what is started in one part is used by the next
	n := newTestNet(t)
	n.web(t)
	cfg := n.remoteConfig(t)
	l := n.startLauncher(t, cfg.Dir)
	rules := testRules(t)
	e := n.start(t, cfg, rules)
	if v := e.Status().Version; !strings.HasPrefix(v, "8.") {
		t.Errorf("version %q", v)
	}
	conn := n.mustDial(t)

	t.Run("requests are judged and denials are told", func(t *testing.T) {
		mustGet(t, conn, "/public/a")
		mustBeDenied(t, n.mustDial(t), "/admin")
		nextEvent(t, e, "alert", isDenial)
	})
	t.Run("the engine has few privileges", func(t *testing.T) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", enginePID(t, e)))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"\nUid:\t65532\t65532\t65532\t65532\n", "\nNoNewPrivs:\t1\n", "\nCapEff:\t0000000000002000\n", "\nCapPrm:\t0000000000002000\n", "\nCapBnd:\t0000000000002000\n"} {
			if !strings.Contains(string(status), want) {
				t.Errorf("no %q in %s", want, regexp.MustCompile(`(?m)^(Uid|Cap|NoNew).*\n`).FindAll(status, -1))
			}
		}
	})
	t.Run("bad rules are refused", func(t *testing.T) {
		_, err := e.Load(t.Context(), rules.with(t, "http.uri", "http.urine"))
		if err == nil || !strings.Contains(err.Error(), "unknown rule keyword 'http.urine'") {
			t.Errorf("%v", err)
		}
		mustGet(t, conn, "/public/b")
	})
	t.Run("rules are reloaded", func(t *testing.T) {
		loaded, err := e.Load(t.Context(), rules.with(t, `\/public\/`, `\/open\/`))
		if err != nil || !loaded.Changed {
			t.Fatalf("%+v, %v", loaded, err)
		}
		mustGet(t, conn, "/open/a")
		if _, err := e.Load(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("an engine that ends is started again", func(t *testing.T) {
		was := enginePID(t, e)
		if err := unix.Kill(was, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		took := waitFor(t, 5*time.Second, "restarted", func() bool { return e.Status().Restarts == 1 && e.Health().Healthy })
		t.Logf("inspects again after %v", took)
		if e.Status().PID == was {
			t.Error("the same process")
		}
		mustBeDenied(t, n.mustDial(t), "/admin")
	})

	t.Run("the next agent adopts it", func(t *testing.T) {
		was, since := enginePID(t, e), mustReloadTime(t, e)
		conn := n.mustDial(t)
		mustGet(t, conn, "/public/a")
		if err := e.Detach(); err != nil {
			t.Fatal(err)
		}
		mustGet(t, conn, "/public/b")
		mustBeDenied(t, n.mustDial(t), "/admin")
		e = n.start(whole, cfg, rules)
		if st := e.Status(); st.PID != was || st.Loaded.Rules != 22 || st.Restarts != 0 {
			t.Errorf("%+v, want process %d", st, was)
		}
		if now := mustReloadTime(t, e); now != since {
			t.Errorf("the same rules were loaded again: %s, and %s before", now, since)
		}
		mustGet(t, conn, "/public/c")
		// Suricata looks for who listens to its events at most every half second, and loses those in between.
		time.Sleep(600 * time.Millisecond)
		mustBeDenied(t, conn, "/admin")
		nextEvent(t, e, "alert to the new supervisor", isDenial)
	})

	t.Run("rules that were not loaded in time are", func(t *testing.T) {
		if err := e.Detach(); err != nil {
			t.Fatal(err)
		}
		// As when the agent dies between the two.
		if err := writeRules(paths(cfg.Dir).rules(), rules.with(t, `\/public\/`, `\/open\/`)); err != nil {
			t.Fatal(err)
		}
		e = newStarted(whole, cfg)
		waitFor(t, 3*time.Second, "healthy", func() bool { return e.Health().Healthy })
		conn := n.mustDial(t)
		mustGet(t, conn, "/open/c")
		mustBeDenied(t, conn, "/public/c")
		if _, err := e.Load(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("a hung engine is killed", func(t *testing.T) {
		if err := e.Detach(); err != nil {
			t.Fatal(err)
		}
		impatient := cfg
		impatient.HangTimeout = time.Second
		e = n.start(whole, impatient, rules)
		was := enginePID(t, e)
		if err := unix.Kill(was, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		waitFor(t, 2*time.Second, "unhealthy", func() bool { return !e.Health().Healthy })
		waitFor(t, 10*time.Second, "another process", func() bool { return e.Health().Healthy && e.Status().PID != was })
	})

	t.Run("a launcher that is killed takes the engine along, and another one is found", func(t *testing.T) {
		was := enginePID(t, e)
		l.kill()
		took := waitFor(t, time.Second, "unhealthy", func() bool { return !e.Health().Healthy })
		t.Logf("known after %v", took)
		waitFor(t, time.Second, "gone", func() bool { return isDead(was) })
		waitFor(t, time.Second, "told", func() bool { return strings.Contains(e.Health().Reason, "launcher") })
		if _, err := e.Load(t.Context(), rules.with(t, `\/public\/`, `\/open\/`)); !isUnreachable(err) {
			t.Errorf("Load without a launcher: %v", err)
		}
		time.Sleep(1500 * time.Millisecond)
		l = n.startLauncher(whole, cfg.Dir)
		took = waitFor(t, 5*time.Second, "healthy", func() bool { return e.Health().Healthy })
		t.Logf("inspects %v after the launcher came back", took)
		conn := n.mustDial(t)
		mustGet(t, conn, "/public/a")
		mustBeDenied(t, conn, "/admin")
	})

	t.Run("a hung launcher keeps nobody waiting", func(t *testing.T) {
		if err := l.cmd.Process.Signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := e.Load(ctx, rules.with(t, `\/public\/`, `\/open\/`)); !isUnreachable(err) || time.Since(start) > 20*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if !e.Health().Healthy {
			t.Error("the engine inspects all the same")
		}
		if err := l.cmd.Process.Signal(unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("SIGTERM ends both in order", func(t *testing.T) {
		was := enginePID(t, e)
		if err := l.cmd.Process.Signal(unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := l.cmd.Wait(); err != nil {
			t.Errorf("the launcher ended with %v", err)
		}
		if !isDead(was) {
			t.Error("the engine lives on")
		}
		waitFor(t, time.Second, "unhealthy", func() bool { return !e.Health().Healthy })
	})
}

// The agent's container may be there before the engine's.
func TestLauncherComesLater(t *testing.T) {
	n := newTestNet(t)
	n.web(t)
	cfg := n.remoteConfig(t)
	e := newStarted(t, cfg)
	if h := e.Health(); h.Healthy || !strings.Contains(h.Reason, "the launcher does not answer") {
		t.Errorf("%+v", h)
	}
	n.startLauncher(t, cfg.Dir)
	waitFor(t, 5*time.Second, "running", func() bool { return e.Status().PID != 0 })
	if _, err := e.Load(t.Context(), testRules(t)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, 3*time.Second, "healthy", func() bool { return e.Health().Healthy })
	mustBeDenied(t, n.mustDial(t), "/admin")
	pid := enginePID(t, e)
	if err := e.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !isDead(pid) {
		t.Error("the engine lives on after Stop")
	}
}

func TestLauncherRefuses(t *testing.T) {
	n := newTestNet(t)
	t.Run("an old Suricata", func(t *testing.T) {
		cfg := n.remoteConfig(t)
		old := filepath.Join(cfg.Dir, "suricata")
		if err := os.WriteFile(old, []byte("#!/bin/sh\necho 'This is Suricata version 7.0.10 RELEASE'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		n.startLauncher(t, cfg.Dir, "MEERKAT_TEST_PROGRAM="+old)
		e, err := New(cfg, logr.Discard())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Stop(context.Background()) })
		if err := e.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "8.0 or newer is needed") {
			t.Errorf("%v", err)
		}
	})
	t.Run("another network namespace", func(t *testing.T) {
		cfg := n.remoteConfig(t)
		elsewhere := *n
		elsewhere.node = n.client
		elsewhere.startLauncher(t, cfg.Dir)
		e, err := New(cfg, logr.Discard())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Stop(context.Background()) })
		if err := e.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "hostNetwork") {
			t.Errorf("%v", err)
		}
	})
	t.Run("a second agent", func(t *testing.T) {
		cfg := n.remoteConfig(t)
		newStarted(t, cfg)
		e, err := New(cfg, logr.Discard())
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "another process supervises the engine") {
			t.Errorf("%v", err)
		}
	})
}

// newStarted is an engine that was started, whether or not it inspects.
func newStarted(t *testing.T, cfg Config) *Engine {
	t.Helper()
	e, err := New(cfg, testr.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Stop(context.Background()) })
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

// isDead tells whether a process has ended, whether or not anybody has asked yet.
func isDead(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func mustReloadTime(t *testing.T, e *Engine) string {
	t.Helper()
	at, err := e.command.ReloadTime(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return at
}
