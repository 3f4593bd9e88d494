package engine

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
	"golang.org/x/sys/unix"
)

func TestOneEngineAPair(t *testing.T) {
	n := newTestNet(t)
	cfg := n.config(t)
	n.start(t, cfg, testRules(t))

	same := cfg
	if e, err := New(same, logr.Discard()); err != nil {
		t.Fatal(err)
	} else if err := e.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "another process supervises the engine in") {
		t.Errorf("a second engine in one directory: %v", err)
	}
	other := n.config(t)
	other.LockDir = cfg.LockDir
	other.A, other.B = cfg.B, cfg.A
	if e, err := New(other, logr.Discard()); err != nil {
		t.Fatal(err)
	} else if err := e.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "another engine already runs on these interfaces") {
		t.Errorf("a second engine on one pair: %v", err)
	}
}

// An engine that is to survive its supervisor is adopted by the next one, with its connections, and replaced when its
// configuration is to change.
func TestAdopt(t *testing.T) {
	n := newTestNet(t)
	n.web(t)
	cfg := n.config(t)
	cfg.KillWithParent = false
	first := n.start(t, cfg, testRules(t))
	pid := first.Status().PID
	conn := n.mustDial(t)
	mustGet(t, conn, "/public/a")
	if err := first.Detach(); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Load(t.Context(), testRules(t)); err == nil {
		t.Error("a detached Engine loads rules")
	}

	second := n.start(t, cfg, testRules(t))
	if st := second.Status(); st.PID != pid || st.Loaded.Rules != 22 {
		t.Errorf("%+v, want process %d", st, pid)
	}
	mustGet(t, conn, "/public/b")
	mustBeDenied(t, conn, "/admin")
	nextEvent(t, second, "alert to the new supervisor", isDenial)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, 5*time.Second, "restarted", func() bool { return second.Status().Restarts == 1 && second.Health().Healthy })
	pid = second.Status().PID
	if err := second.Detach(); err != nil {
		t.Fatal(err)
	}

	cfg.Memory.Flows = 32
	third := n.start(t, cfg, testRules(t))
	if st := third.Status(); st.PID == pid || st.PID == 0 {
		t.Errorf("%+v, want another process than %d", st, pid)
	}
	if err := unix.Kill(pid, 0); err == nil {
		t.Errorf("process %d still runs", pid)
	}
	pid = third.Status().PID
	if err := third.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, 0); err == nil {
		t.Errorf("process %d still runs after Stop", pid)
	}
}

// The test runs itself as the supervisor that is killed.
func TestKillWithParent(t *testing.T) {
	if dir := os.Getenv("MEERKAT_TEST_SUPERVISOR"); dir != "" {
		cfg := Config{
			A: "mk-l7a", B: "mk-l7b", Netns: os.Getenv("MEERKAT_TEST_NETNS"), Dir: dir, LockDir: dir + "/locks",
			Binary: requireSuricata(t), KillWithParent: true,
		}
		e, err := New(cfg, testr.New(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("pid %d\n", e.Status().PID)
		select {}
	}
	n := newTestNet(t)
	dir := n.config(t).Dir
	cmd := exec.Command(os.Args[0], "-test.run", "^TestKillWithParent$")
	cmd.Env = append(os.Environ(), "MEERKAT_TEST_SUPERVISOR="+dir, "MEERKAT_TEST_NETNS="+n.node)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		_, _ = fmt.Sscanf(lines.Text(), "pid %d", &pid)
	}
	if pid == 0 || unix.Kill(pid, 0) != nil {
		t.Fatalf("no engine: pid %d", pid)
	}
	time.Sleep(200 * time.Millisecond) // threads that only started the engine would be gone by now
	if err := unix.Kill(pid, 0); err != nil {
		t.Fatalf("the engine died before its parent: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	took := waitFor(t, 2*time.Second, "dead", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ") // dead, whether or not anybody has asked yet
	})
	t.Logf("dead after %v", took)
}

// The engine parses what strangers send: it must not be able to do much else.
func TestPrivileges(t *testing.T) {
	n := newTestNet(t)
	e := n.start(t, n.config(t), testRules(t))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.Status().PID))
	if err != nil {
		t.Fatal(err)
	}
	// DAC_READ_SEARCH, NET_ADMIN, NET_RAW, IPC_LOCK.
	for _, want := range []string{"CapEff:\t0000000000007004\n", "CapBnd:\t0000000000007004\n", "NoNewPrivs:\t1\n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(own), "NoNewPrivs:\t0\n") {
		t.Error("the supervisor gave up its own privileges")
	}
}

func TestStartFails(t *testing.T) {
	n := newTestNet(t)
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no such interface": {func(c *Config) { c.A = "mk-none" }, "mk-none"},
		"no such agent":     {func(c *Config) { c.Agent = "mk-none" }, "cannot open a raw socket on mk-none"},
		"no such netns":     {func(c *Config) { c.Netns = "/run/netns/none" }, "network namespace /run/netns/none"},
		"bad settings":      {func(c *Config) { c.Settings = []string{"runmode: nonsense\n"} }, "its last words: "},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := n.config(t)
			test.change(&cfg)
			e, err := New(cfg, logr.Discard())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err = e.Start(ctx)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			t.Log(err)
			if err := e.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Rules that an earlier run left and that this engine does not take must not keep it from starting.
func TestStartWithBadRulesLeft(t *testing.T) {
	n := newTestNet(t)
	cfg := n.config(t)
	if err := writeRules(paths(cfg.Dir).rules(), Rules{Firewall: []byte("accept:hook nonsense\n")}); err != nil {
		t.Fatal(err)
	}
	e := n.start(t, cfg, testRules(t))
	if got := e.Status().Loaded.Rules; got != 22 {
		t.Errorf("%d rules", got)
	}
}
