package launcher

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newGroup are signature launchers whose Suricata is a shell script.
func newGroup(t *testing.T, script string, user uint32) (client func(name string) Client) {
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
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- SignatureLaunchers(dir, program, 2, user, io.Discard).Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	client = func(name string) Client { return Client{Place{Root: dir, Name: name}} }
	for _, name := range []string{"1", "2", ValidateName} {
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if _, err := client(name).Status(t.Context()); err == nil {
				break
			} else if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
	return client
}

// field reads a line of a process's status.
func field(t *testing.T, pid int, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "\n"+name+":")
	value, _, _ := strings.Cut(after, "\n")
	return strings.TrimSpace(value)
}

func TestGroup(t *testing.T) {
	client := newGroup(t, "exec sleep 100", 65501)
	one, two := client("1"), client("2")
	first, err := one.Start(t.Context(), one.startArgs(), 10, false)
	if err != nil {
		t.Fatal(err)
	}
	second, err := two.Start(t.Context(), two.startArgs(), 0, false)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // until both are sleep
	t.Run("each engine is a user of its own", func(t *testing.T) {
		for pid, want := range map[int]string{first.PID: "65501", second.PID: "65502"} {
			if uid := field(t, pid, "Uid"); !strings.HasPrefix(uid, want+"\t") {
				t.Errorf("process %d is user %s, want %s", pid, uid, want)
			}
		}
	})
	t.Run("each has its niceness", func(t *testing.T) {
		own, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		if err != nil {
			t.Fatal(err)
		}
		for pid, want := range map[int]int{first.PID: min(20-own+10, MaxNice), second.PID: 20 - own} {
			if got, err := unix.Getpriority(unix.PRIO_PROCESS, pid); err != nil || 20-got != want { // as the kernel gives it
				t.Errorf("process %d has niceness %d (%v), want %d", pid, 20-got, err, want)
			}
		}
		for _, nice := range []int{-1, 20} {
			if _, err := client(ValidateName).Start(t.Context(), client(ValidateName).startArgs(), nice, false); err == nil {
				t.Errorf("niceness %d is allowed", nice)
			}
		}
	})
	t.Run("paths of another one are refused", func(t *testing.T) {
		if _, err := one.Start(t.Context(), two.startArgs(), 0, false); err == nil || !strings.Contains(err.Error(), "not allowed") && !strings.Contains(err.Error(), "are allowed") {
			t.Errorf("%v", err)
		}
	})
	t.Run("one that ends is nobody else's matter", func(t *testing.T) {
		if err := one.Signal(t.Context(), first.Name, SignalKill); err != nil {
			t.Fatal(err)
		}
		if exit, err := one.Wait(t.Context(), first.Name); err != nil || exit.OK {
			t.Errorf("%+v, %v", exit, err)
		}
		if status, err := two.Status(t.Context()); err != nil || status.Process == nil || status.Process.PID != second.PID {
			t.Errorf("%+v, %v", status, err)
		}
		if _, err := two.Wait(t.Context(), first.Name); err == nil {
			t.Error("another launcher knows the process")
		}
	})
}

// TestMemoryProcess is no test: TestLimitMemory runs it.
func TestMemoryProcess(t *testing.T) {
	mib, err := strconv.Atoi(os.Getenv("MEERKAT_TEST_MEMORY"))
	if err != nil {
		t.Skip("only as a process of another test")
	}
	if err := LimitMemory(uint64(mib) << 20); err != nil {
		t.Fatal(err)
	}
	client := newGroup(t, `dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null && exit 0; exit 3`, 0)
	c := client(ValidateName)
	exit, err := c.Check(t.Context(), []string{"-T", "-c", filepath.Join(c.Dir(), "check.yaml"), "-l", c.EngineDir()}, 0, time.Minute)
	fmt.Printf("exit: %s, %v\n", exit.How, err)
}

func TestLimitMemory(t *testing.T) {
	for mib, want := range map[string]string{"256": "exit: exit status 0, <nil>", "150": "exit: exit status 3, <nil>"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestMemoryProcess$")
		cmd.Env = append(os.Environ(), "MEERKAT_TEST_MEMORY="+mib)
		said, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(said), want) {
			t.Errorf("a program that takes 200 MiB, of %s: %v\n%s", mib, err, said)
		}
	}
}

func TestTaggedWriter(t *testing.T) {
	var out strings.Builder
	w := &taggedWriter{tag: "3", to: &out}
	for _, part := range []string{`{"level":"IN`, "FO\"}\nInfo: plain", "\n\n", strings.Repeat("x", longestLine+1), "\n{}\n"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	want := "{\"slot\":\"3\",\"level\":\"INFO\"}\nslot 3: Info: plain\nslot 3: \nslot 3: " + strings.Repeat("x", longestLine) + "\nslot 3: x\nslot 3: {}\n"
	if out.String() != want {
		t.Errorf("%.300q\nwant\n%.300q", out.String(), want)
	}
}

// TestUnprivilegedProcess is no test: TestCacheIsRemovedWithoutPrivileges runs it.
func TestUnprivilegedProcess(t *testing.T) {
	if os.Getenv("MEERKAT_TEST_UNPRIVILEGED") == "" {
		t.Skip("only as a process of another test")
	}
	client := newGroup(t, `umask 027; mkdir -p "$4/cache" && echo x >"$4/cache/a.hs" && exec sleep 100`, 65501)
	c := client("1")
	for _, fresh := range []bool{false, true} {
		p, err := c.Start(t.Context(), c.startArgs(), 0, fresh)
		if err != nil {
			t.Fatalf("fresh %t: %v", fresh, err)
		}
		time.Sleep(300 * time.Millisecond) // until it has written
		if err := c.Signal(t.Context(), p.Name, SignalKill); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Wait(t.Context(), p.Name); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Println("both started")
}

// A container's launcher has no right to pass over permissions: what Suricata has made is another user's.
func TestCacheIsRemovedWithoutPrivileges(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner,-chown", os.Args[0], "-test.run", "^TestUnprivilegedProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "MEERKAT_TEST_UNPRIVILEGED=1")
	said, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(said), "both started") {
		t.Errorf("%v\n%s", err, said)
	}
}
