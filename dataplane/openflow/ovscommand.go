package openflow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

const defaultTimeout = 10 * time.Second

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

// IsNotRunning says whether the error comes of Open vSwitch not running, or not where RunDir says.
func IsNotRunning(err error) bool {
	var e *CommandError
	return errors.As(err, &e) && (strings.Contains(e.Stderr, "database connection failed") ||
		strings.Contains(e.Stderr, "cannot read pidfile") || strings.Contains(e.Stderr, "failed to connect"))
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
	return s.run(ctx, "", "ovs-appctl", append([]string{"--target=ovs-vswitchd"}, args...)...)
}

func (s *OVS) timeout() time.Duration {
	if s.Timeout == 0 {
		return defaultTimeout
	}
	return s.Timeout
}

// run runs one of Open vSwitch's programs and gives its output.
func (s *OVS) run(ctx context.Context, stdin, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout())
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Second
	if s.RunDir != "" {
		cmd.Env = append(os.Environ(), "OVS_RUNDIR="+s.RunDir)
	}
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	if err == nil {
		return out.String(), nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("no answer within %s: %w", s.timeout(), context.Cause(ctx))
	}
	e := &CommandError{Program: program, Arguments: args, Err: err, Stderr: strings.TrimSpace(stderr.String())}
	e.Remedy = s.remedy(e)
	return "", e
}

func (s *OVS) remedy(e *CommandError) string {
	where := "the system's run directory"
	if s.RunDir != "" {
		where = s.RunDir
	}
	switch {
	case errors.Is(e.Err, exec.ErrNotFound):
		return "install Open vSwitch 3.1 or newer (Debian: openvswitch-switch)"
	case IsNoBridge(e):
		return "make the bridge first (EnsureBridge)"
	case IsNotRunning(e):
		return "is Open vSwitch running in " + where + "?"
	case errors.Is(e.Err, context.DeadlineExceeded):
		return "ovs-vswitchd in " + where + " may hang: see its log"
	default:
		return ""
	}
}
