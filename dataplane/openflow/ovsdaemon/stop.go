package ovsdaemon

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopSignals are how a daemon is ended, and how long it may take to end by each. ovsdb-server writes its database through to the
// disk: while a slow disk keeps it waiting, not even SIGKILL ends it.
var stopSignals = []struct {
	signal   syscall.Signal
	patience time.Duration
}{{syscall.SIGTERM, 3 * time.Second}, {syscall.SIGKILL, 30 * time.Second}}

// Stop ends both daemons, the switch first, and waits for them. Their interfaces go with them; the directory with its logs
// stays. Stopping twice does nothing.
func (d *Daemons) Stop() error {
	err := errors.Join(d.switchd.stop(), d.db.stop())
	d.log("Open vSwitch in " + d.opts.Dir + " has ended")
	return err
}

// Exited is closed when the switch has ended, by Stop or by itself.
func (d *Daemons) Exited() <-chan struct{} { return d.switchd.ended }

// process is a child of ours.
type process struct {
	program string
	cmd     *exec.Cmd
	stderr  *head
	ended   chan struct{}
}

func (p *process) wait() {
	_ = p.cmd.Wait()
	close(p.ended)
}

func (p *process) stop() error {
	if p == nil {
		return nil
	}
	for _, s := range stopSignals {
		select {
		case <-p.ended:
			return nil
		default:
			_ = p.cmd.Process.Signal(s.signal)
		}
		select {
		case <-p.ended:
			return nil
		case <-time.After(s.patience):
		}
	}
	return fmt.Errorf("%s (process %d) does not end, not even by SIGKILL", p.program, p.cmd.Process.Pid)
}

// StopDir ends the daemons whose pid files lie in dir, whoever started them, and waits for them. It is no error when there are
// none. A process that has taken over an old pid file's number is left alone.
func StopDir(dir string) error {
	return errors.Join(stopByPIDFile(dir, switchProgram), stopByPIDFile(dir, dbProgram))
}

func stopByPIDFile(dir, program string) error {
	content, err := os.ReadFile(filepath.Join(dir, program+".pid"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading which %s runs in %s: %w", program, dir, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil || !runsIn(pid, program, dir) {
		return nil
	}
	for _, s := range stopSignals {
		_ = syscall.Kill(pid, s.signal)
		for end := time.Now().Add(s.patience); time.Now().Before(end); time.Sleep(pollInterval) {
			if !runsIn(pid, program, dir) {
				return nil
			}
		}
	}
	return fmt.Errorf("%s (process %d) in %s does not end, not even by SIGKILL", program, pid, dir)
}

// runsIn says whether process pid is that program, started for that directory. A zombie has no command line and counts as gone.
func runsIn(pid int, program, dir string) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	// The program need not come first: a dynamic loader may have been asked to run it.
	isProgram := func(arg string) bool { return filepath.Base(arg) == program }
	return slices.ContainsFunc(strings.Split(string(line), "\x00"), isProgram) &&
		bytes.Contains(line, []byte("--pidfile="+filepath.Join(dir, program+".pid")+"\x00"))
}

// head keeps the first bytes that a program writes to its error output, which is where it says why it cannot start.
type head struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write never fails; what is beyond the bound is forgotten.
func (t *head) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const bound = 2000
	t.buf.Write(p[:min(len(p), max(0, bound-t.buf.Len()))])
	return len(p), nil
}

func (t *head) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
