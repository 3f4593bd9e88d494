package engine

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// With a disk that is full, new rules are refused with the reason, the last good ones stay, and an engine that dies comes back.
func TestDiskFull(t *testing.T) {
	n := newTestNet(t)
	n.web(t)
	cfg := n.config(t)
	if err := unix.Mount("tmpfs", cfg.Dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(cfg.Dir, unix.MNT_DETACH) })
	rules := testRules(t)
	e := n.start(t, cfg, rules)

	filler := filepath.Join(cfg.Dir, "filler")
	fill(t, filler)
	_, err := e.Load(t.Context(), rules.with(t, "public", "other"))
	if err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("loading rules with a full disk: %v", err)
	}
	if st := e.Status(); st.LastLoadError == nil || !st.Health.Healthy {
		t.Errorf("%+v", st)
	}
	judges := func() {
		t.Helper()
		conn := n.mustDial(t)
		mustGet(t, conn, "/public/a")
		mustBeDenied(t, conn, "/admin")
	}
	judges()

	if err := unix.Kill(e.Status().PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	took := waitFor(t, 5*time.Second, "back", func() bool { return e.Status().Restarts == 1 && e.Health().Healthy })
	t.Logf("killed with a full disk: back after %v", took)
	judges()

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Load(t.Context(), rules.with(t, "public", "other")); err != nil {
		t.Errorf("loading rules once there is room: %v", err)
	}
	mustBeDenied(t, n.mustDial(t), "/public/a")
}

// fill writes a file until nothing more fits.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it is full
	for size := 64 << 10; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(bytes.Repeat([]byte{'x'}, size))
		}
	}
}

// Rules that were good when they were loaded may not load any more when the engine starts again: it may be another version, or
// somebody has changed the files. No engine runs with a part of its rules then, and Health names the one that is refused.
func TestRestartWithRulesThatNoLongerLoad(t *testing.T) {
	for name, c := range map[string]struct {
		file  string
		spoil func([]byte) []byte
		says  string
	}{
		"a firewall rule": {firewallFile, func(b []byte) []byte { return append(b, "accept:hook nonsense\n"...) }, "accept:hook nonsense"},
		"a detection rule": {detectFile, func(b []byte) []byte {
			return append(b, "drop http any any -> any any (http.nonsense; sid:99;)\n"...)
		}, "http.nonsense"},
		"rules are missing": {detectFile, func([]byte) []byte { return nil }, "it does not have the rules it should have"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newTestNet(t)
			n.web(t)
			cfg := n.config(t)
			rules := testRules(t)
			e := n.start(t, cfg, rules)
			path := filepath.Join(paths(cfg.Dir).rules(), c.file)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, c.spoil(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := unix.Kill(e.Status().PID, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			waitFor(t, 5*time.Second, "refused", func() bool { return strings.Contains(e.Health().Reason, c.says) })
			for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
				if e.Health().Healthy {
					t.Fatal("an engine without its rules counts as healthy")
				}
			}
			t.Logf("Health: %s", e.Health().Reason)
			if _, err := e.Load(t.Context(), rules); err != nil {
				t.Fatal(err)
			}
			waitFor(t, 3*time.Second, "healthy", func() bool { return e.Health().Healthy })
			conn := n.mustDial(t)
			mustGet(t, conn, "/public/a")
			mustBeDenied(t, conn, "/admin")
		})
	}
}

// With no memory for more connections, those that are too many are dropped whole, and that is told; the others go on.
func TestOutOfMemory(t *testing.T) {
	n := newTestNet(t)
	reached := n.web(t)
	cfg := n.config(t)
	cfg.Settings = append(cfg.Settings, "stream: {prealloc-sessions: 1, reassembly: {memcap: 40kb, segment-prealloc: 1}}\n")
	e := n.start(t, cfg, testRules(t))
	before := n.mustDial(t)
	mustGet(t, before, "/public/before")

	// Requests whose header does not end keep what has arrived of them in memory.
	for range 20 {
		conn := n.mustDial(t)
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		for range 20 {
			if _, err := conn.Write([]byte("GET /public/x HTTP/1.1\r\nX: " + strings.Repeat("x", 1000))); err != nil {
				break
			}
		}
	}
	event := nextEvent(t, e, "no memory", func(e Event) bool { return e.Drop != nil && e.Drop.Reason == "stream reassembly" })
	t.Logf("told: %s", event.Drop.Reason)
	denied := n.mustDial(t)
	mustBeDenied(t, denied, "/admin")
	if got := reached.Load(); got != nil && *got == "/admin" {
		t.Error("what is forbidden passed")
	}
	if !e.Health().Healthy {
		t.Errorf("%+v", e.Health())
	}
}
