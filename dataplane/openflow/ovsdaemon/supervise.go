package ovsdaemon

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Waits before a daemon that ended is started again: they double while it does not run for steady, and begin anew when it does. While
// it does not run, governed Pods have no network, so only one that does not come up at all has to wait longer.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	steady     = 2 * time.Second
)

// Supervise runs both daemons in the foreground until the context ends, and starts each again, without the other, when it ends. The
// database is kept: bridges and their ports come back with the next run. The daemons' logs go to console, and there are no log
// files. When it ends and there is no bridge, it leaves nothing behind. One Supervise uses a directory at a time; the next one waits for it.
func Supervise(ctx context.Context, opts Options, console io.Writer) error {
	if err := checkOptions(&opts); err != nil {
		return err
	}
	lock, err := waitForDirectory(ctx, opts)
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // closing it gives it back
	opts.console = &lineWriter{w: console}
	d := &Daemons{opts: opts}
	// What an earlier run left, which was killed, is gone with its container; where it is not, it must not stay beside ours.
	if err := StopDir(opts.Dir); err != nil {
		return err
	}
	if err := openDatabase(ctx, opts, d.log); err != nil {
		return err
	}
	var daemons sync.WaitGroup
	switchContext, stopSwitch := context.WithCancel(ctx)
	defer stopSwitch()
	dbContext, stopDB := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDB()
	daemons.Go(func() { d.keep(dbContext, d.spawnDB) })
	d.initialise(switchContext)
	d.keep(switchContext, d.spawnSwitch) // until the context ends
	unused := d.hasNoBridge()
	stopDB() // the switch first, then its database
	daemons.Wait()
	if unused {
		return Forget(opts.Dir) // nobody would come back for it
	}
	return nil
}

// hasNoBridge tells whether the database is known to have no bridge.
func (d *Daemons) hasNoBridge() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := d.Command(ctx, "ovs-vsctl", "--no-wait", "--timeout=4", "list-br").Output()
	return err == nil && len(bytes.TrimSpace(out)) == 0
}

// waitForDirectory keeps other supervisors from the directory, also those of other containers.
func waitForDirectory(ctx context.Context, opts Options) (*os.File, error) {
	path := filepath.Join(opts.Dir, supervisorLock)
	for said := false; ; said = true {
		f, err := lockFile(path)
		if f != nil || err != nil {
			return f, err
		}
		if !said && opts.Log != nil {
			opts.Log("Waiting for another switch to leave " + opts.Dir)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for another switch to leave %s: %w", opts.Dir, context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// supervisorLock is the file that a supervisor has locked.
const supervisorLock = "supervisor.lock"

// lockFile locks a file, which it makes; nil when somebody else has it.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	// Whoever had it may have removed it: then it locks nobody out.
	mine, err1 := f.Stat()
	present, err2 := os.Stat(path)
	if err1 != nil || err2 != nil || !os.SameFile(mine, present) {
		_ = f.Close()
		return nil, nil
	}
	return f, nil
}

// initialise waits for the database and writes its first row, if it is new.
func (d *Daemons) initialise(ctx context.Context) {
	for ctx.Err() == nil {
		if dial(ctx, d.DBSocket()) == nil {
			err := d.vsctl(ctx, "--no-wait", "--", "init", "--", "set", "Open_vSwitch", ".", "external-ids:owner=meerkat",
				"ovs_version="+cmp.Or(d.opts.Programs.Version, "unknown"),
				// What the last run wrote about itself does not hold until the next one has come up.
				"--", "clear", "Open_vSwitch", ".", "datapath_types")
			if err == nil {
				return
			}
			d.log("The database is not ready: " + err.Error())
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// keep runs a daemon until the context ends, and ends it then.
func (d *Daemons) keep(ctx context.Context, spawn func() (*process, error)) {
	for wait := minBackoff; ctx.Err() == nil; {
		started := time.Now()
		p, err := spawn()
		if err == nil {
			d.log(fmt.Sprintf("%s runs (process %d)", p.program, p.cmd.Process.Pid))
			select {
			case <-ctx.Done():
				if err := p.stop(); err != nil {
					d.log(err.Error())
				}
				return
			case <-p.ended:
				err = fmt.Errorf("%s ended: %s", p.program, p.cmd.ProcessState)
			}
		}
		if time.Since(started) > steady {
			wait = minBackoff
		}
		d.log(fmt.Sprintf("%v; starting it again in %s", err, wait))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, maxBackoff)
	}
}

// lineWriter serves several writers, one at a time.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write never fails: a switch must not end for want of a reader of its log.
func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(p)
	return len(p), nil
}
