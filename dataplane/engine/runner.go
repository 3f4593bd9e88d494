package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
	"github.com/meerkat-dev/meerkat/dataplane/ownthread"
)

// runner has Suricata run: as a child of this process, or by a launcher in another container.
type runner interface {
	// claim makes the pair of interfaces this supervisor's, until release. It gives the engine of an earlier supervisor of Dir
	// that runs already, or nil.
	claim(ctx context.Context) (*process, error)
	// start starts the engine and returns at once. What an earlier one has compiled is removed first where fresh is set.
	start(ctx context.Context, args []string, fresh bool) (*process, error)
	// check runs Suricata with these arguments to its end, or until the context ends. The error tells that it could not be run.
	check(ctx context.Context, args []string) (checked, error)
	// version is that of the Suricata that runs; "" when it is not known yet.
	version() string
	release()
}

// checked is what a run of "suricata -T" said.
type checked struct {
	failed         error // how it ended, unless with status 0
	stdout, stderr []byte
}

// child runs Suricata as a child of this process. The process inherits the lock of the pair: the lock lasts as long as it lives.
type child struct {
	cfg      Config
	lockPath string
	lock     *os.File // nil while the process is an adopted one
	log      func(err error, message string)
}

func (c *child) version() string { return c.cfg.Binary.Version }

func (c *child) claim(context.Context) (*process, error) {
	if c.lock != nil {
		return nil, nil
	}
	lock, err := tryLock(c.lockPath)
	if errors.Is(err, errLocked) {
		return c.survivor()
	}
	c.lock = lock
	return nil, err
}

// survivor is the engine of an earlier supervisor of Dir. Anybody else who has the pair's lock is not ours to touch.
func (c *child) survivor() (*process, error) {
	p := paths(c.cfg.Dir)
	pid := lockHolder(p.pid(), c.lockPath)
	if pid == 0 {
		return nil, fmt.Errorf("another engine already runs on these interfaces (it holds the lock %s): two on one pair would forward "+
			"what the other drops; stop it first (fuser %s tells its process)", c.lockPath, c.lockPath)
	}
	return adoptProcess(pid, p.log())
}

func (c *child) start(_ context.Context, args []string, fresh bool) (*process, error) {
	p := paths(c.cfg.Dir)
	if c.lock == nil { // the process before was adopted
		lock, err := tryLock(c.lockPath)
		if err != nil {
			return nil, fmt.Errorf("cannot lock the interfaces: %w", err)
		}
		c.lock = lock
	}
	_ = os.Remove(c.cfg.commandSocket())
	if fresh {
		_ = os.RemoveAll(c.cfg.cacheDir())
	}
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("cannot open the engine's log: %w", err)
	}
	defer log.Close() //nolint:errcheck // the process has its own
	proc, err := startProcess(processSpec{
		argv: append([]string{c.cfg.Binary.Path}, args...), netns: c.cfg.Netns, log: log, lock: c.lock, killWithParent: c.cfg.KillWithParent, nice: c.cfg.Nice,
	})
	if err != nil {
		return nil, err
	}
	if err := writeFile(c.cfg.Dir, pidFile, []byte(strconv.Itoa(proc.pid)+"\n")); err != nil {
		// An engine is worth more than that the next supervisor can adopt it.
		c.log(err, "Cannot write the pid file; the next supervisor will not find this engine")
	}
	return proc, nil
}

func (c *child) check(ctx context.Context, args []string) (checked, error) {
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, c.cfg.Binary.Path, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} //nolint:forbidigo // its thread is its own
	ended := make(chan error, 1)
	ownthread.Run(func() {
		_ = launcher.BeNice(c.cfg.checkNice())
		ended <- cmd.Run()
	})
	err := <-ended
	if ctx.Err() != nil {
		return checked{}, context.Cause(ctx)
	}
	return checked{failed: err, stdout: []byte(stdout.String()), stderr: []byte(stderr.String())}, nil
}

func (c *child) release() {
	if c.lock != nil {
		_ = c.lock.Close()
	}
}
