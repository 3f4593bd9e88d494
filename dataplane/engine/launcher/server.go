package launcher

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Server runs Suricata at the request of an agent: one engine and one check at a time.
type Server struct {
	// Place is where the agent finds the launcher. Its subdirectory "run" must be writable.
	Place
	// Program is the Suricata to run.
	Program string
	// User is who Suricata runs as; 0 for the launcher's own user. Another one needs CAP_SETUID, and CAP_KILL to end it.
	User uint32
	// Log receives what Suricata says and what the launcher does, a line at a time.
	Log io.Writer
	// Family is that of all launchers of a process; nil where this is the only one.
	Family *Family

	instance string
	netns    uint64
	say      *slog.Logger
	checking chan struct{} // holds one token while a check or a version is under way
	calls    chan struct{} // holds one token for each call
	over     chan struct{} // closed when the launcher ends

	mu       sync.Mutex
	engine   *child
	started  int  // engines, so far
	stopping bool // no engine is started any more
}

// Time limits of the launcher.
const (
	requestTimeout = 5 * time.Second // for a caller to say what it wants, or to take the answer
	versionTimeout = 10 * time.Second
	maxCheckTime   = 5 * time.Minute
)

// maxCalls is how many callers are served at a time; the agent has two or three.
const maxCalls = 16

// Run listens and serves until the context ends; then it ends the engine, and returns when that is gone.
func (s *Server) Run(ctx context.Context) error {
	if err := s.prepare(); err != nil {
		return err
	}
	lock, err := lockDirectory(filepath.Join(s.run(), lockName))
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // closing it gives it back
	listener, err := listen(s.Socket())
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	s.say.Info("Waiting for the agent", "socket", s.Socket(), "program", s.Program, "user", s.User)
	var calls sync.WaitGroup
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			if ctx.Err() == nil {
				err = fmt.Errorf("cannot listen any more at %s: %w", s.Socket(), err)
			} else {
				err = nil
			}
			s.stop()
			calls.Wait()
			return err
		}
		calls.Go(func() { s.serve(conn) })
	}
}

func (s *Server) prepare() error {
	s.Root = filepath.Clean(s.Root)
	if err := s.check(); err != nil {
		return err
	}
	if s.Family == nil {
		s.Family = &Family{}
	}
	if s.Log == nil {
		s.Log = io.Discard
	}
	s.Log = &lockedWriter{w: s.Log}
	s.say = slog.New(slog.NewJSONHandler(s.Log, nil))
	s.checking, s.calls = make(chan struct{}, 1), make(chan struct{}, maxCalls)
	s.over = make(chan struct{})
	s.instance = rand.Text()
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		return fmt.Errorf("cannot look at the network namespace (is /proc mounted?): %w", err)
	}
	s.netns = st.Ino
	for dir, mode := range map[string]os.FileMode{
		s.run(): 0o755,
		// By its group: see command.
		s.EngineDir(): 0o770,
	} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("cannot make %s (it must be writable): %w", dir, err)
		}
	}
	if err := os.Chmod(s.EngineDir(), 0o770); err != nil { // whatever the umask
		return fmt.Errorf("cannot let Suricata write in its directory: %w", err)
	}
	return nil
}

// lockDirectory keeps a second launcher from the directory, and with it a second engine from the interfaces.
func lockDirectory(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another launcher works in %s (it holds %s); stop it first", filepath.Dir(path), path)
		}
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	return f, nil
}

func listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot remove the old socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot listen for the agent: %w", err)
	}
	// For its owner: Suricata, which is another user, must not ask for anything.
	if err := os.Chmod(path, 0o600); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("cannot close the socket to others: %w", err)
	}
	return listener, nil
}

// stop ends the engine for good.
func (s *Server) stop() {
	s.mu.Lock()
	s.stopping = true
	c := s.engine
	s.mu.Unlock()
	close(s.over)
	if c != nil {
		s.say.Info("Ending Suricata", "pid", c.PID)
		c.end()
	}
}

// lockedWriter writes for several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write never fails: the engine must not end for want of a reader of its log.
func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(p)
	return len(p), nil
}
