package ovsdaemon

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// RestartSwitch ends ovs-vswitchd by a signal and starts it again with the database as it is, as a service manager would. It
// returns when the new process runs; when that has taken up the database, its bridges can be reached.
func (d *Daemons) RestartSwitch(ctx context.Context, signal syscall.Signal) (err error) {
	if err := d.switchd.end(ctx, signal); err != nil {
		return err
	}
	d.switchd, err = d.spawnSwitch()
	return err
}

// StopDB ends ovsdb-server by a signal. StartDB starts it again with its database.
func (d *Daemons) StopDB(ctx context.Context, signal syscall.Signal) error {
	return d.db.end(ctx, signal)
}

// StartDB starts ovsdb-server after StopDB, and returns when it answers.
func (d *Daemons) StartDB(ctx context.Context) (err error) {
	if d.db, err = d.spawnDB(); err != nil {
		return err
	}
	return d.waitFor(ctx, d.db, func() bool { return connects(d.DBSocket()) })
}

// end sends a signal, and waits until the process is gone.
func (p *process) end(ctx context.Context, signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("ending %s (process %d): %w", p.program, p.cmd.Process.Pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopSignals[1].patience)
	defer cancel()
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s (process %d) does not end by signal %d within %s", p.program, p.cmd.Process.Pid, signal,
			stopSignals[1].patience.Round(time.Second))
	}
}
