package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
	"github.com/meerkat-dev/meerkat/dataplane/ownthread"
)

// process is a running Suricata: one that was started here, or one that survived an earlier supervisor and was adopted.
type process struct {
	pid     int
	started time.Time
	done    chan struct{} // closed when the process is gone
	how     string        // how it ended; valid once done is closed
	// send sends a signal; a process that is gone already is no error.
	send func(unix.Signal) error
	// said gives the end of what it wrote to its log, as far as that can be told.
	said func() []byte
}

// processSpec is what startProcess needs.
type processSpec struct {
	argv           []string
	netns          string
	log            *os.File
	lock           *os.File // inherited: the pair stays locked as long as the process lives
	killWithParent bool
	nice           int
}

// startProcess starts the program and returns at once.
func startProcess(spec processSpec) (*process, error) {
	type result struct {
		p   *process
		err error
	}
	started := make(chan result, 1)
	// The parent-death signal is sent when the thread that started the process ends, not the process of that thread. So the
	// thread lives until the child is gone. It is also the one that is in the engine's network namespace while the child is made,
	// and that has given up what the child must not have.
	ownthread.Run(func() {
		p, cmd, err := spec.start()
		started <- result{p, err}
		if err == nil {
			p.finish(cmd.Wait())
		}
	})
	r := <-started
	return r.p, r.err
}

// start runs on a thread of its own, which serves nobody else afterwards.
func (spec processSpec) start() (*process, *exec.Cmd, error) {
	if spec.netns != "" {
		if _, err := enterNetns(spec.netns); err != nil {
			return nil, nil, err
		}
	}
	// The engine needs raw sockets on its interfaces, and to reach its own directory wherever that is.
	if err := launcher.DropPrivileges(unix.CAP_NET_RAW, unix.CAP_NET_ADMIN, unix.CAP_IPC_LOCK, unix.CAP_DAC_READ_SEARCH); err != nil {
		return nil, nil, err
	}
	if err := launcher.BeNice(spec.nice); err != nil {
		return nil, nil, fmt.Errorf("cannot give the engine the niceness %d: %w", spec.nice, err)
	}
	cmd := exec.Command(spec.argv[0], spec.argv[1:]...)
	cmd.Stdout, cmd.Stderr = spec.log, spec.log
	cmd.ExtraFiles = []*os.File{spec.lock}
	cmd.Dir = "/"
	// A session of its own: a Ctrl-C on the terminal is for the supervisor, which then ends the engine in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if spec.killWithParent {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL //nolint:forbidigo // our caller has a thread for it
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("cannot start %s: %w", spec.argv[0], err)
	}
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, nil, os.NewSyscallError("pidfd_open", err)
	}
	return newLocalProcess(cmd.Process.Pid, pidfd, spec.log.Name()), cmd, nil
}

// newLocalProcess is a process of this machine. Its pidfd is never another process's, unlike the pid.
func newLocalProcess(pid, pidfd int, logPath string) *process {
	return &process{
		pid: pid, started: time.Now(), done: make(chan struct{}),
		send: func(sig unix.Signal) error {
			if err := unix.PidfdSendSignal(pidfd, sig, nil, 0); err != nil && err != unix.ESRCH { //nolint:errorlint // a bare errno
				return err
			}
			return nil
		},
		said: func() []byte { return endOfLog(logPath) },
	}
}

// adoptProcess watches a process that somebody else started.
func adoptProcess(pid int, logPath string) (*process, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot watch process %d: %w", pid, err)
	}
	p := newLocalProcess(pid, pidfd, logPath)
	if info, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		p.started = info.ModTime()
	}
	go func() {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		for {
			if n, err := unix.Poll(fds, -1); n > 0 || err != unix.EINTR { //nolint:errorlint // a bare errno
				break
			}
		}
		p.finish(nil)
	}()
	return p, nil
}

func (p *process) finish(err error) {
	p.how = "it ended"
	if err != nil {
		p.how = err.Error()
	}
	close(p.done)
}

// running tells whether the process is still there.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(sig unix.Signal) error {
	if err := p.send(sig); err != nil {
		return fmt.Errorf("cannot signal the engine (process %d): %w", p.pid, err)
	}
	return nil
}

// end asks the process to end, kills it after the grace, and waits until it is gone.
func (p *process) end(grace time.Duration) error {
	if grace > 0 {
		if err := p.signal(unix.SIGTERM); err != nil {
			return err
		}
		select {
		case <-p.done:
			return nil
		case <-time.After(grace):
		}
	}
	if err := p.signal(unix.SIGKILL); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(5 * time.Second):
		return fmt.Errorf("the engine (process %d) does not die; it hangs in the kernel", p.pid)
	}
}

// lockHolder is the process in the pid file, if it really has the lock file open; else 0.
func lockHolder(pidFile, lockPath string) int {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 || pid == os.Getpid() {
		return 0
	}
	lock, err := filepath.EvalSymlinks(lockPath)
	if err != nil {
		return 0
	}
	open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range open {
		if target, err := os.Readlink(fd); err == nil && target == lock {
			return pid
		}
	}
	return 0
}

// logRecord is a line of Suricata's own log.
type logRecord struct {
	LogLevel string `json:"log_level"`
	Engine   struct {
		Message string `json:"message"`
	} `json:"engine"`
}

// parseLog reads Suricata's log in its JSON form. Lines that are something else (the dynamic loader's, an abort's) come out as
// errors, since nothing but trouble writes them.
func parseLog(text []byte) []logRecord {
	var records []logRecord
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		var r logRecord
		if json.Unmarshal(line, &r) != nil || r.Engine.Message == "" {
			r = logRecord{LogLevel: "Error"}
			r.Engine.Message = string(line)
		}
		records = append(records, r)
	}
	return records
}

// lastLog is how much of the end of a log is looked at, in bytes.
const lastLog = 16 << 10

// endOfLog reads the end of a log file; nothing when it cannot.
func endOfLog(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close() //nolint:errcheck // read-only
	if info, err := f.Stat(); err == nil && info.Size() > lastLog {
		_, _ = f.Seek(-lastLog, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(f, lastLog))
	return text
}

// ends waits for the process to end by itself, for a while at most, and tells whether it has.
func (p *process) ends(within time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(within):
		return false
	}
}

// lastErrors are the last words of the log that tell why the engine ended.
func lastErrors(log []byte) string {
	var said []string
	for _, r := range parseLog(log) {
		if r.LogLevel == "Error" {
			said = append(said, launcher.Clean(r.Engine.Message, 500))
		}
	}
	if len(said) == 0 {
		return ""
	}
	return "; its last words: " + strings.Join(said[max(0, len(said)-3):], "; ")
}
