package scale_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// manager is the real program.
type manager struct {
	process *exec.Cmd
	log     *bytes.Buffer
}

func startManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{process: exec.Command(program, "--kubeconfig", cluster.Kubeconfig, "--webhook=false", "--leader-elect",
		"--metrics-bind-address=0", "--health-probe-bind-address=0", "--log-level=info"), log: &bytes.Buffer{}}
	m.process.Env = append(os.Environ(), "POD_NAMESPACE=meerkat-system")
	m.process.Stderr = m.log
	m.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, m.process.Start())
	t.Cleanup(func() {
		_ = m.process.Process.Signal(syscall.SIGTERM)
		if err := m.process.Wait(); err != nil || t.Failed() {
			t.Logf("the manager ended with %v:\n%s", err, m.log)
		}
	})
	return m
}

// memory returns the resident set, in bytes: at present, and at its largest.
func (m *manager) memory(t *testing.T) (now, largest int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.process.Process.Pid))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		switch fields[0] {
		case "VmRSS:":
			now, err = strconv.ParseInt(fields[1], 10, 64)
		case "VmHWM:":
			largest, err = strconv.ParseInt(fields[1], 10, 64)
		}
		must(t, err)
	}
	return now << 10, largest << 10
}

// processor returns the processor time used so far.
func (m *manager) processor(t *testing.T) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.process.Process.Pid))
	must(t, err)
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(field, 10, 64)
		must(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // a hundred a second
}

// phase measures the manager while something is done, and prints what it used.
func (m *manager) phase(t *testing.T, name string, do func()) {
	t.Helper()
	began, used := time.Now(), m.processor(t)
	do()
	took, used := time.Since(began), m.processor(t)-used
	now, largest := m.memory(t)
	t.Logf("%-46s %6.1f s; manager: %4.0f %% of a processor, %d MB resident, %d MB at most",
		name, took.Seconds(), 100*used.Seconds()/took.Seconds(), now>>20, largest>>20)
}
