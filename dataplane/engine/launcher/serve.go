package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// serve answers one call.
func (s *Server) serve(conn *net.UnixConn) {
	defer conn.Close() //nolint:errcheck // nothing is left to lose
	select {
	case s.calls <- struct{}{}:
		defer func() { <-s.calls }()
	default:
		return // too many
	}
	if !isOurs(conn) {
		return
	}
	_ = conn.SetDeadline(time.Now().Add(requestTimeout))
	var request Request
	if err := readLine(conn, maxRequest, &request); err != nil {
		_ = writeLine(conn, Reply{Error: "the request was not understood: " + err.Error()})
		return
	}
	// From here on the caller says nothing more: what can be read is that it hung up.
	_ = conn.SetDeadline(time.Time{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = conn.Read(make([]byte, 1))
		cancel()
	}()
	reply, err := s.answer(ctx, request)
	if err != nil {
		reply = Reply{Error: err.Error()}
	}
	reply.Instance, reply.Netns = s.instance, s.netns
	_ = conn.SetWriteDeadline(time.Now().Add(requestTimeout))
	_ = writeLine(conn, reply)
}

// isOurs tells whether the caller is the launcher's own user, as the agent is; Suricata is another one.
func isOurs(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	ours := false
	_ = raw.Control(func(fd uintptr) {
		peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ours = err == nil && int(peer.Uid) == os.Geteuid()
	})
	return ours
}

func (s *Server) answer(ctx context.Context, r Request) (Reply, error) {
	if r.Nice < 0 || r.Nice > MaxNice {
		return Reply{}, fmt.Errorf("the niceness %d is not allowed: 0 to %d are", r.Nice, MaxNice)
	}
	switch r.Op {
	case OpStatus:
		return s.status(), nil
	case OpVersion:
		exit, err := s.runToEnd(ctx, []string{"-V"}, 0, versionTimeout)
		return Reply{Exit: exit}, err
	case OpCheck:
		if err := s.checkArguments(r.Args, true); err != nil {
			return Reply{}, err
		}
		limit := maxCheckTime
		if r.Seconds > 0 && r.Seconds < int(limit.Seconds()) {
			limit = time.Duration(r.Seconds) * time.Second
		}
		exit, err := s.runToEnd(ctx, r.Args, r.Nice, limit)
		return Reply{Exit: exit}, err
	case OpStart:
		return s.start(r)
	case OpWait:
		return s.wait(ctx, r)
	case OpSignal:
		return s.signal(r)
	default:
		return Reply{}, fmt.Errorf("nothing is called %.40q here: agent and launcher are of different versions", r.Op)
	}
}

func (s *Server) status() Reply {
	c := s.running()
	if c == nil {
		return Reply{}
	}
	p := c.Process
	return Reply{Process: &p, Output: c.said.all()}
}

// running is the engine, or nil.
func (s *Server) running() *child {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine == nil {
		return nil
	}
	select {
	case <-s.engine.done:
		return nil
	default:
		return s.engine
	}
}

func (s *Server) start(r Request) (Reply, error) {
	if err := s.checkArguments(r.Args, false); err != nil {
		return Reply{}, err
	}
	if c := s.running(); c != nil {
		return Reply{}, fmt.Errorf("an engine runs already (process %d)", c.PID)
	}
	if err := s.emptyEngineDir(r.Fresh); err != nil {
		return Reply{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return Reply{}, errors.New("the launcher is ending")
	}
	s.started++
	c, err := s.startEngine(s.instance+"."+strconv.Itoa(s.started), r.Args, r.Nice)
	if err != nil {
		return Reply{}, fmt.Errorf("cannot start %s: %w", s.Program, err)
	}
	s.engine = c
	s.say.Info("Suricata started", "pid", c.PID)
	p := c.Process
	return Reply{Process: &p}, nil
}

func (s *Server) named(name string) (*child, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine == nil || s.engine.Name != name {
		return nil, fmt.Errorf("there is no process %.80q", name)
	}
	return s.engine, nil
}

func (s *Server) wait(ctx context.Context, r Request) (Reply, error) {
	c, err := s.named(r.Process)
	if err != nil {
		return Reply{}, err
	}
	select {
	case <-c.done:
		exit := c.exit
		return Reply{Exit: &exit}, nil
	case <-ctx.Done():
		return Reply{}, ctx.Err()
	}
}

func (s *Server) signal(r Request) (Reply, error) {
	c, err := s.named(r.Process)
	if err != nil {
		return Reply{}, err
	}
	switch r.Signal {
	case SignalTerm:
		return Reply{}, c.signal(syscall.SIGTERM)
	case SignalKill:
		return Reply{}, c.signal(syscall.SIGKILL)
	default:
		return Reply{}, fmt.Errorf("the signal %.20q is not allowed", r.Signal)
	}
}

// checkOutput is how much is kept of each stream of a check, in bytes. In a reply it takes a third more.
const checkOutput = 1 << 20

// runToEnd runs Suricata without any privileges, until it ends, its time is over, or the caller hangs up.
func (s *Server) runToEnd(ctx context.Context, args []string, nice int, limit time.Duration) (*Exit, error) {
	select {
	case s.checking <- struct{}{}:
		defer func() { <-s.checking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	stdout, stderr := &output{bound: checkOutput}, &output{bound: checkOutput}
	cmd := s.command(args)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	ended := make(chan error, 1)
	if err := s.startOnOwnThread(cmd, nil, nice, func() { ended <- cmd.Wait() }); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", s.Program, err)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var err error
	timedOut := false
	select {
	case err = <-ended:
	case <-timer.C:
		timedOut = true
		_ = cmd.Process.Kill()
		err = <-ended
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		err = <-ended
	case <-s.over:
		_ = cmd.Process.Kill()
		err = <-ended
	}
	exit := exitOf(err)
	exit.Cut = stdout.isCut() || stderr.isCut()
	exit.TimedOut, exit.Stdout, exit.Stderr = timedOut, bytes.TrimSpace(stdout.all()), bytes.TrimSpace(stderr.all())
	return &exit, nil
}

func exitOf(err error) Exit {
	if err == nil {
		return Exit{How: "exit status 0", OK: true}
	}
	return Exit{How: err.Error()}
}

func isGone(err error) bool {
	return errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH)
}
