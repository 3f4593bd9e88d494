package launcher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// CallTimeout bounds each call that takes no time of its own.
const CallTimeout = 5 * time.Second

// ErrUnreachable is wrapped by errors of calls that no launcher answered: it does not run, or hangs.
var ErrUnreachable = errors.New("the launcher does not answer")

// RefusedError is the launcher's own words about a request that it did not carry out.
type RefusedError struct{ Message string }

// Error gives the launcher's words.
func (e *RefusedError) Error() string { return "the launcher says: " + e.Message }

// Client calls the launcher of a place. What comes from there is bounded and cleaned of control characters, and else what
// anybody may have made up.
type Client struct{ Place }

// Status tells what runs. The reply's Instance and Netns are set.
func (c Client) Status(ctx context.Context) (Reply, error) {
	return c.call(ctx, CallTimeout, Request{Op: OpStatus})
}

// Version gives what Suricata says to -V.
func (c Client) Version(ctx context.Context) (string, error) {
	reply, err := c.call(ctx, CallTimeout+versionTimeout, Request{Op: OpVersion})
	if err != nil {
		return "", err
	}
	if reply.Exit == nil {
		return "", errNothing
	}
	if !reply.Exit.OK {
		return "", fmt.Errorf("suricata -V: %s: %s", reply.Exit.How, Clean(string(reply.Exit.Stderr), 300))
	}
	return Clean(string(reply.Exit.Stdout), 300), nil
}

// Check runs Suricata with -T, with a niceness of 0..19. It is ended when limit is over; the Exit tells so.
func (c Client) Check(ctx context.Context, args []string, nice int, limit time.Duration) (Exit, error) {
	seconds := max(1, int(limit.Seconds()))
	reply, err := c.call(ctx, CallTimeout+time.Duration(seconds)*time.Second, Request{Op: OpCheck, Args: args, Nice: nice, Seconds: seconds})
	if err == nil && reply.Exit == nil {
		err = errNothing
	}
	if err != nil {
		return Exit{}, err
	}
	return *reply.Exit, nil
}

// Start starts Suricata, with a niceness of 0..19. What an earlier one has left in EngineDir/CacheDirectory stays, unless fresh.
func (c Client) Start(ctx context.Context, args []string, nice int, fresh bool) (Process, error) {
	reply, err := c.call(ctx, CallTimeout, Request{Op: OpStart, Args: args, Nice: nice, Fresh: fresh})
	if err == nil && reply.Process == nil {
		err = errNothing
	}
	if err != nil {
		return Process{}, err
	}
	return *reply.Process, nil
}

// Signal sends SignalTerm or SignalKill to the process of that name.
func (c Client) Signal(ctx context.Context, process, signal string) error {
	_, err := c.call(ctx, CallTimeout, Request{Op: OpSignal, Process: process, Signal: signal})
	return err
}

// Wait returns when the process ends, and tells how; or with an error that wraps ErrUnreachable as soon as the launcher is gone.
// It returns when the context ends.
func (c Client) Wait(ctx context.Context, process string) (Exit, error) {
	reply, err := c.call(ctx, 0, Request{Op: OpWait, Process: process})
	if err == nil && reply.Exit == nil {
		err = errNothing
	}
	if err != nil {
		return Exit{}, err
	}
	return *reply.Exit, nil
}

var errNothing = errors.New("the launcher answered nothing that was asked: agent and launcher are of different versions")

// call sends a request and reads the answer; limit 0 stands for no limit of the answer.
func (c Client) call(ctx context.Context, limit time.Duration, request Request) (Reply, error) {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	var reply Reply
	if err := c.exchange(ctx, request, &reply); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return Reply{}, fmt.Errorf("%w (%s, at %s): %w", ErrUnreachable, request.Op, c.Socket(), err)
	}
	if reply.Error != "" {
		return Reply{}, &RefusedError{Message: Clean(reply.Error, 500)}
	}
	reply.clean()
	return reply, nil
}

func (c Client) exchange(ctx context.Context, request Request, reply *Reply) error {
	conn, err := Dial(ctx, c.Root, c.below(socketName))
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is left to lose
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := writeLine(conn, request); err != nil {
		return err
	}
	return readLine(conn, maxReply, reply)
}

// clean cuts what is shown to people. Output stays as it is: it is parsed.
func (r *Reply) clean() {
	r.Instance = Clean(r.Instance, 80)
	if p := r.Process; p != nil {
		p.Name = Clean(p.Name, 80)
		if now := time.Now(); p.Started.After(now) || p.Started.IsZero() {
			p.Started = now
		}
		p.PID = max(1, p.PID) // 0 would say that nothing runs
	}
	if r.Exit != nil {
		r.Exit.How = Clean(r.Exit.How, 200)
	}
}

// Clean makes a text of unknown origin fit to be shown: valid, printable, in one line, and of at most limit bytes.
func Clean(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return '?'
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		default:
			return -1
		}
	}, strings.TrimSpace(text[:min(len(text), 2*limit)]))
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "")
	}
	return text
}

// Dial connects to the Unix socket name below dir, which others may have put there: it follows no symbolic link, so that nobody
// makes this process talk to another socket of the machine.
func Dial(ctx context.Context, dir, name string) (*net.UnixConn, error) {
	parent, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(parent) //nolint:errcheck // nothing is left to lose
	fd, err := unix.Openat2(parent, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(dir, name), Err: err}
	}
	defer unix.Close(fd) //nolint:errcheck // nothing is left to lose
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("%s is no socket", filepath.Join(dir, name))
	}
	// The path of what was opened, and of nothing else, whatever stands at the name by now.
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		if failed, ok := errors.AsType[*net.OpError](err); ok {
			err = failed.Err // without the number of the file
		}
		return nil, &os.PathError{Op: "connect", Path: filepath.Join(dir, name), Err: err}
	}
	return conn.(*net.UnixConn), nil
}
