package launcher

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newServer is a launcher whose Suricata is a shell script.
func newServer(t *testing.T, script string) Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "mkl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "suricata")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := &Server{Place: Place{Root: dir}, Program: program}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the launcher does not end")
		}
	})
	c := Client{Place{Root: dir}}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := c.Status(t.Context()); err == nil {
			return c
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func (c Client) startArgs() []string {
	return []string{"-c", filepath.Join(c.Dir(), "suricata.yaml"), "-l", c.EngineDir(), "--af-packet"}
}

func TestOneEngineAtATime(t *testing.T) {
	c := newServer(t, "echo running; exec sleep 100")
	p, err := c.Start(t.Context(), c.startArgs(), 0, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Start(t.Context(), c.startArgs(), 0, false); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("a second engine: %v", err)
	}
	status, err := c.Status(t.Context())
	for end := time.Now().Add(5 * time.Second); len(status.Output) == 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		status, err = c.Status(t.Context())
	}
	if err != nil || status.Process == nil || status.Process.Name != p.Name || status.Instance == "" || status.Netns == 0 {
		t.Errorf("%+v, %v", status, err)
	}
	if err := c.Signal(t.Context(), "another.1", SignalKill); err == nil {
		t.Error("a process of another launcher is killed")
	}
	if err := c.Signal(t.Context(), p.Name, "STOP"); err == nil {
		t.Error("any signal is sent")
	}
	ended := make(chan Exit, 1)
	go func() { exit, _ := c.Wait(context.Background(), p.Name); ended <- exit }()
	if err := c.Signal(t.Context(), p.Name, SignalTerm); err != nil {
		t.Fatal(err)
	}
	select {
	case exit := <-ended:
		if exit.OK || exit.How != "signal: terminated" || string(exit.Stderr) != "running\n" {
			t.Errorf("%+v", exit)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nobody tells that it ended")
	}
	if err := c.Signal(t.Context(), p.Name, SignalKill); err != nil {
		t.Errorf("a process that is gone: %v", err)
	}
	next, err := c.Start(t.Context(), c.startArgs(), 0, false)
	if err != nil || next.Name == p.Name {
		t.Errorf("%+v, %v", next, err)
	}
}

// What the engine before left in its directory, links that lead elsewhere too, is gone when the next one starts.
func TestEngineDirIsEmptied(t *testing.T) {
	c := newServer(t, "exec sleep 100")
	kept := filepath.Join(c.Dir(), "suricata.yaml")
	for path, content := range map[string]string{kept: "kept", c.EngineDir() + "/command.sock": "old"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"dir": c.Dir(), "file": kept} {
		if err := os.Symlink(target, filepath.Join(c.EngineDir(), name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Start(t.Context(), c.startArgs(), 0, false); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(c.EngineDir())
	if err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
	if text, err := os.ReadFile(kept); err != nil || string(text) != "kept" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestCheckIsBounded(t *testing.T) {
	c := newServer(t, `case $1 in -V) echo "This is Suricata version 8.0.8";; *) echo begins; head -c 5000000 /dev/zero | tr '\0' 'x'; echo; echo ends; exec sleep 100;; esac`)
	args := []string{"-T", "-c", filepath.Join(c.Dir(), "check.yaml"), "-l", c.EngineDir()}
	exit, err := c.Check(t.Context(), args, 0, time.Second)
	if err != nil || !exit.TimedOut || exit.OK || string(exit.Stdout) != "begins\nends" {
		t.Errorf("%v, timed out %t, %d bytes, %v", exit.How, exit.TimedOut, len(exit.Stdout), err)
	}
	// One that nobody waits for any more does not hold up the next.
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Check(ctx, args, 0, time.Minute); err == nil {
		t.Error("a check outlives its caller")
	}
	began := time.Now()
	if said, err := c.Version(t.Context()); err != nil || said != "This is Suricata version 8.0.8" || time.Since(began) > 30*time.Second {
		t.Errorf("%q, %v after %v", said, err, time.Since(began))
	}
}

// Callers who say nothing do not keep others away for long.
func TestSilentCallers(t *testing.T) {
	c := newServer(t, "exec sleep 100")
	for range maxCalls + 5 {
		conn, err := net.Dial("unix", c.Socket())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	for end := time.Now().Add(requestTimeout + 2*time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := c.Status(t.Context()); err == nil {
			return
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestSecondLauncherIsRefused(t *testing.T) {
	c := newServer(t, "exec sleep 100")
	err := (&Server{Place: c.Place, Program: "/bin/true"}).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "another launcher works in") {
		t.Errorf("%v", err)
	}
}

// The first process of a container is made the parent of processes whose own parents have ended.
func TestReap(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
	c := newServer(t, `sh -c 'sleep 0.2 & echo $!' ; exec sleep 100`)
	family := &Family{}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	p, err := c.Start(t.Context(), c.startArgs(), 0, false)
	if err != nil {
		t.Fatal(err)
	}
	family.pids = map[int]bool{p.PID: true} // that launcher's child is this process's
	go family.Reap(ctx)
	var orphan string
	for end := time.Now().Add(5 * time.Second); orphan == ""; time.Sleep(10 * time.Millisecond) {
		status, err := c.Status(t.Context())
		if err != nil || time.Now().After(end) {
			t.Fatal("no orphan", err)
		}
		orphan = strings.TrimSpace(string(status.Output))
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat("/proc/" + orphan); err != nil {
			break
		}
		if time.Now().After(end) {
			stat, _ := os.ReadFile("/proc/" + orphan + "/stat")
			t.Fatalf("the orphan is still there: %s", stat)
		}
	}
	if status, err := c.Status(t.Context()); err != nil || status.Process == nil {
		t.Errorf("the engine was taken for an orphan: %+v, %v", status, err)
	}
}
