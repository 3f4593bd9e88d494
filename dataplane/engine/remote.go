package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

// launched runs Suricata by a launcher. The lock of the pair is this process's: it does not last while only the engine runs. Then
// it is the launcher that keeps a second engine away, since it runs only one.
type launched struct {
	cfg      Config
	client   launcher.Client
	lockPath string
	lock     *os.File
	over     context.Context // ends with release: nobody waits for processes any more
	end      context.CancelFunc

	mu       sync.Mutex
	instance string // of the launcher whose Suricata is the one below
	binary   Binary
}

func newLaunched(cfg Config, lockPath string) *launched {
	l := &launched{cfg: cfg, client: launcher.Client{Place: cfg.place()}, lockPath: lockPath}
	l.over, l.end = context.WithCancel(context.Background())
	return l
}

// isUnreachable tells that no launcher answered: it says nothing about the engine's configuration or rules.
func isUnreachable(err error) bool { return errors.Is(err, launcher.ErrUnreachable) }

func (l *launched) version() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.binary.Version
}

func (l *launched) claim(ctx context.Context) (*process, error) {
	if l.lock == nil {
		lock, err := tryLock(l.lockPath)
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("another process supervises an engine on these interfaces (it holds the lock %s); stop it first "+
				"(fuser %s tells its process)", l.lockPath, l.lockPath)
		}
		if err != nil {
			return nil, err
		}
		l.lock = lock
	}
	status, err := l.status(ctx)
	if err != nil {
		return nil, err
	}
	if status.Process == nil {
		return nil, nil
	}
	return l.follow(*status.Process), nil
}

// status asks the launcher, and looks at who answers: another launcher than before may have another Suricata.
func (l *launched) status(ctx context.Context) (launcher.Reply, error) {
	status, err := l.client.Status(ctx)
	if err != nil {
		return status, err
	}
	here, err := netnsID(l.cfg.Netns)
	if err != nil {
		return status, err
	}
	if status.Netns != here {
		return status, fmt.Errorf("the launcher at %s is in another network namespace (%d) than the engine's interfaces (%d): run its "+
			"container with hostNetwork, as the agent's", l.cfg.Launcher, status.Netns, here)
	}
	l.mu.Lock()
	known := l.instance == status.Instance && l.binary.Version != ""
	l.mu.Unlock()
	if known {
		return status, nil
	}
	said, err := l.client.Version(ctx)
	if err != nil {
		return status, err
	}
	binary, err := ParseVersion("the launcher's Suricata", []byte(said))
	if err != nil {
		return status, err
	}
	l.mu.Lock()
	l.instance, l.binary = status.Instance, binary
	l.mu.Unlock()
	return status, nil
}

func (l *launched) start(ctx context.Context, args []string, fresh bool) (*process, error) {
	if _, err := l.status(ctx); err != nil {
		return nil, err
	}
	p, err := l.client.Start(ctx, args, l.cfg.Nice, fresh)
	if err != nil {
		return nil, err
	}
	return l.follow(p), nil
}

// follow watches a process of the launcher's.
func (l *launched) follow(p launcher.Process) *process {
	var mu sync.Mutex
	var last []byte // its last words
	proc := &process{
		pid: p.PID, started: p.Started, done: make(chan struct{}),
		send: func(sig unix.Signal) error {
			name := launcher.SignalKill
			if sig == unix.SIGTERM {
				name = launcher.SignalTerm
			}
			return l.client.Signal(context.Background(), p.Name, name)
		},
	}
	proc.said = func() []byte {
		select {
		case <-proc.done:
			mu.Lock()
			defer mu.Unlock()
			return last
		default:
		}
		status, err := l.client.Status(context.Background())
		if err != nil {
			return nil
		}
		return status.Output
	}
	go func() {
		exit, err := l.client.Wait(l.over, p.Name)
		mu.Lock()
		last = bytes.Clone(exit.Stderr[max(0, len(exit.Stderr)-lastLog):])
		mu.Unlock()
		switch {
		case err != nil:
			proc.finish(fmt.Errorf("nothing is known of it any more: %w", err))
		case exit.OK:
			proc.finish(nil)
		default:
			proc.finish(errors.New(exit.How))
		}
	}()
	return proc
}

func (l *launched) check(ctx context.Context, args []string) (checked, error) {
	if _, err := l.client.Status(ctx); err != nil { // one that hangs would take all the time
		return checked{}, err
	}
	limit := ReloadTimeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline))
	}
	exit, err := l.client.Check(ctx, args, l.cfg.checkNice(), limit)
	if err != nil {
		return checked{}, err
	}
	if exit.TimedOut {
		return checked{}, fmt.Errorf("it took longer than %s", limit.Round(time.Second))
	}
	c := checked{stdout: exit.Stdout, stderr: exit.Stderr}
	if !exit.OK {
		c.failed = errors.New(exit.How)
	}
	return c, nil
}

func (l *launched) release() {
	l.end()
	if l.lock != nil {
		_ = l.lock.Close()
	}
}
