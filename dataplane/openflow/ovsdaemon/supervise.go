package ovsdaemon

import (
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

// Waits before a daemon that ended is started again: they double while it does not run for steady, and begin anew when it does.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	steady     = 30 * time.Second
)

// Supervise runs both daemons in the foreground until the context ends, and starts each again, without the other, when it ends. The
// database is kept: bridges and their ports come back with the next run. The daemons' logs go to console, and there are no log
// files. One Supervise uses a directory at a time; the next one waits for it.
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
	d := &Daemons{opts: opts, released: make(chan struct{})}
	// What an earlier run left, which was killed, is gone with its container; where it is not, it must not stay beside ours.
	if err := StopDir(opts.Dir); err != nil {
		return err
	}
	if err := openDatabase(ctx, opts, d.log); err != nil {
		return err
	}
	defer close(d.released)
	var daemons sync.WaitGroup
	switchContext, stopSwitch := context.WithCancel(ctx)
	defer stopSwitch()
	dbContext, stopDB := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDB()
	daemons.Go(func() { d.keep(dbContext, d.spawnDB) })
	d.initialise(switchContext)
	d.keep(switchContext, d.spawnSwitch) // until the context ends
	stopDB()                             // the switch first, then its database
	daemons.Wait()
	return nil
}

// waitForDirectory keeps other supervisors from the directory, also those of other containers.
func waitForDirectory(ctx context.Context, opts Options) (*os.File, error) {
	path := filepath.Join(opts.Dir, "supervisor.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the directory: %w", err)
	}
	for said := false; ; said = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || ctx.Err() != nil {
			_ = f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, errors.Join(err, context.Cause(ctx)))
		}
		if !said && opts.Log != nil {
			opts.Log("Waiting for another switch to leave " + opts.Dir)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
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
