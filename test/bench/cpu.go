package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuMeter counts the CPU time of this process and of all that it starts: a control group's, where there is one, so that what
// else the machine does is not counted; else the whole machine's. Either counts what the kernel does in their name, packets
// included: without CONFIG_IRQ_TIME_ACCOUNTING, a group's time has that of the interrupts that it is interrupted for.
type cpuMeter struct {
	what string // says what is counted
	read func() (time.Duration, error)
	end  func() error
}

func newCPUMeter() *cpuMeter {
	for _, g := range []struct{ root, file, what string }{
		{"/sys/fs/cgroup/cpuacct", "cpuacct.usage", "cpuacct"}, {"/sys/fs/cgroup", "cpu.stat", "cgroup v2"},
	} {
		dir := filepath.Join(g.root, fmt.Sprintf("meerkat-bench-%d", os.Getpid()))
		if m, err := joinGroup(g.root, dir, filepath.Join(dir, g.file)); err == nil {
			m.what = "a control group with the client, the servers, Open vSwitch and Suricata (" + g.what + ")"
			return m
		}
	}
	return &cpuMeter{what: "the whole machine (/proc/stat)", read: machineTime, end: func() error { return nil }}
}

func joinGroup(root, dir, file string) (*cpuMeter, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	join := func(group string) error {
		return os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o600)
	}
	if err := join(dir); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	m := &cpuMeter{read: func() (time.Duration, error) { return groupTime(file) }}
	m.end = func() error { return errors.Join(join(root), os.Remove(dir)) }
	if _, err := m.read(); err != nil {
		return nil, errors.Join(err, m.end())
	}
	return m, nil
}

var usageLine = regexp.MustCompile(`(?m)^usage_usec (\d+)$`)

func groupTime(file string) (time.Duration, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	if m := usageLine.FindSubmatch(text); m != nil {
		us, err := strconv.ParseInt(string(m[1]), 10, 64)
		return time.Duration(us) * time.Microsecond, err
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return time.Duration(ns), err
}

// machineTime sums up the first line of /proc/stat, in hundredths of a second: all but idle and waiting for I/O.
func machineTime() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var sum time.Duration
	for i, field := range strings.Fields(line)[1:] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		if i != 3 && i != 4 && i < 8 { // guests' time is in that of users already
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum, nil
}

func (m *cpuMeter) used() (time.Duration, error) { return m.read() }

func (m *cpuMeter) close() error { return m.end() }

// machine describes what the benchmark ran on.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	model := "CPU"
	cores := 0
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				cores++
			}
		}
	}
	return fmt.Sprintf("%d × %s, Linux %s", cores, model, unix.ByteSliceToString(u.Release[:]))
}
