package openflow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	defaultTimeout = 10 * time.Second
	defaultRunDir  = "/var/run/openvswitch"
)

// CommandError says that one of Open vSwitch's programs failed.
type CommandError struct {
	// Program and Arguments are what was run.
	Program   string
	Arguments []string
	// Stderr is what the program said.
	Stderr string
	// Remedy says what to do about it; empty when that is not known.
	Remedy string
	// Err is how it ended.
	Err error
}

// Error is a sentence.
func (e *CommandError) Error() string {
	what := strings.Join(append([]string{e.Program}, e.Arguments...), " ")
	s := fmt.Sprintf("%s: %v", what, e.Err)
	if e.Stderr != "" {
		s += ": " + e.Stderr
	}
	if e.Remedy != "" {
		s += ": " + e.Remedy
	}
	return s
}

// Unwrap gives how the program ended.
func (e *CommandError) Unwrap() error { return e.Err }

// IsNoBridge says whether the error comes of the bridge not being there: EnsureBridge makes it.
func IsNoBridge(err error) bool {
	var e *CommandError
	return errors.As(err, &e) && (strings.Contains(e.Stderr, "is not a bridge or a socket") ||
		strings.Contains(e.Stderr, "no bridge named"))
}

// isNoMeter says whether the error comes of flows that use a meter that is not there.
func isNoMeter(err error) bool {
	var e *CommandError
	return errors.As(err, &e) && strings.Contains(e.Stderr, "METER")
}

// IsNotRunning says whether the error comes of Open vSwitch not running, or not where RunDir says.
func IsNotRunning(err error) bool {
	var e *CommandError
	return errors.As(err, &e) && (strings.Contains(e.Stderr, "database connection failed") ||
		strings.Contains(e.Stderr, "cannot read pidfile") || strings.Contains(e.Stderr, "failed to connect") ||
		errors.Is(e.Err, errNoDatabase))
}

func (s *OVS) ofctl(ctx context.Context, stdin string, args ...string) (string, error) {
	return s.run(ctx, stdin, "ovs-ofctl", append([]string{"--protocols=OpenFlow15"}, args...)...)
}

func (s *OVS) vsctl(ctx context.Context, args ...string) (string, error) {
	seconds := int(s.timeout().Seconds())
	options := []string{"--timeout=" + strconv.Itoa(max(1, seconds))}
	if s.RunDir != "" {
		options = append(options, "--db=unix:"+s.RunDir+"/db.sock")
	}
	return s.run(ctx, "", "ovs-vsctl", append(options, args...)...)
}

func (s *OVS) appctl(ctx context.Context, args ...string) (string, error) {
	return s.run(ctx, "", "ovs-appctl", append([]string{"--target=" + s.controlSocket()}, args...)...)
}

// controlSocket is where ovs-vswitchd takes commands. ovs-appctl would find it by the program's name, but takes the pid file for a
// stale one when the switch runs in another container, where its process has another number.
func (s *OVS) controlSocket() string {
	pid, err := os.ReadFile(s.pidFile())
	number := strings.TrimSpace(string(pid))
	if _, bad := strconv.ParseUint(number, 10, 32); err != nil || bad != nil {
		return "ovs-vswitchd" // whatever is wrong, the program tells
	}
	return filepath.Join(filepath.Dir(s.pidFile()), "ovs-vswitchd."+number+".ctl")
}

func (s *OVS) pidFile() string {
	return filepath.Join(cmp.Or(s.RunDir, defaultRunDir), "ovs-vswitchd.pid")
}

func (s *OVS) timeout() time.Duration {
	if s.Timeout == 0 {
		return defaultTimeout
	}
	return s.Timeout
}

// run runs one of Open vSwitch's programs and gives its output.
func (s *OVS) run(ctx context.Context, stdin, program string, args ...string) (string, error) {
	if err := s.database(); err != nil {
		return "", s.failed(&CommandError{Program: program, Arguments: args, Err: err})
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout())
	defer cancel()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	defer time.AfterFunc(databasePeriod, func() { s.abortWithoutDatabase(ctx, abort) }).Stop()
	cmd := exec.CommandContext(ctx, filepath.Join(s.Programs, program), args...)
	if s.RunDir != "" {
		cmd.Env = append(os.Environ(), "OVS_RUNDIR="+s.RunDir)
	}
	if stdin != "" {
		input, err := inMemory(stdin)
		if err != nil {
			return "", fmt.Errorf("preparing the input of %s: %w", program, err)
		}
		defer input.Close() //nolint:errcheck // it was only read
		cmd.Stdin = input
	}
	// Not pipes: of those, another child that is being started at that moment may hold a copy, and the command would seem to go on.
	out, err := inMemory("")
	if err != nil {
		return "", fmt.Errorf("preparing the output of %s: %w", program, err)
	}
	defer out.Close() //nolint:errcheck // it is in memory
	stderr, err := inMemory("")
	if err != nil {
		return "", fmt.Errorf("preparing the output of %s: %w", program, err)
	}
	defer stderr.Close() //nolint:errcheck // it is in memory
	cmd.Stdout, cmd.Stderr = out, stderr
	if err = cmd.Run(); err == nil {
		return written(out)
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errNoDatabase):
		err = cause
	case cause != nil:
		err = fmt.Errorf("no answer within %s: %w", s.timeout(), cause)
	}
	said, _ := written(stderr)
	return "", s.failed(&CommandError{Program: program, Arguments: args, Err: err, Stderr: strings.TrimSpace(said)})
}

func (s *OVS) failed(e *CommandError) error {
	e.Remedy = s.remedy(e)
	return e
}

// errNoDatabase says that nobody listens at the database's socket.
var errNoDatabase = errors.New("ovsdb-server does not run")

// databasePeriod is how often a command that waits looks whether it waits in vain.
const databasePeriod = 250 * time.Millisecond

// database looks whether the database is there: without it ovs-vswitchd (3.5) does not answer, and every command would wait in
// vain.
func (s *OVS) database() error {
	conn, err := net.DialTimeout("unix", filepath.Join(cmp.Or(s.RunDir, defaultRunDir), "db.sock"), time.Second)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
		return errNoDatabase
	}
	if err == nil {
		_ = conn.Close()
	}
	return nil // what else is wrong, the program tells better
}

// abortWithoutDatabase aborts a command that waits for a switch that has lost its database.
func (s *OVS) abortWithoutDatabase(ctx context.Context, abort context.CancelCauseFunc) {
	for ctx.Err() == nil {
		if err := s.database(); err != nil {
			abort(err)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(databasePeriod):
		}
	}
}

// inMemory gives a file with that content. Unlike a pipe it holds all of it from the start: should this process be killed,
// the program does not take half an input for the whole.
func inMemory(text string) (*os.File, error) {
	fd, err := unix.MemfdCreate("input", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "input")
	if _, err := file.WriteAt([]byte(text), 0); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// written gives what a file in memory holds.
func written(f *os.File) (string, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	text, err := io.ReadAll(f)
	return string(text), err
}

func (s *OVS) remedy(e *CommandError) string {
	where := "the system's run directory"
	if s.RunDir != "" {
		where = s.RunDir
	}
	switch {
	case errors.Is(e.Err, exec.ErrNotFound), errors.Is(e.Err, os.ErrNotExist):
		return "install Open vSwitch 3.3 or newer (Debian: openvswitch-switch)"
	case IsNoBridge(e):
		return "make the bridge first (EnsureBridge)"
	case errors.Is(e.Err, errNoDatabase):
		return "without it ovs-vswitchd does nothing: start ovsdb-server; is Open vSwitch running in " + where + "?"
	case IsNotRunning(e):
		return "is Open vSwitch running in " + where + "?"
	case errors.Is(e.Err, context.DeadlineExceeded):
		return "ovs-vswitchd in " + where + " may hang: see its log"
	default:
		return ""
	}
}
