package network

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/ownthread"
)

// Command is any program, to be run in a network namespace of the lab, as if in a container that shares the machine's files.
// It is used as the exec.Cmd that it holds, of which all fields may be set; but only Run, Start, Wait and Kill may be called.
type Command struct {
	*exec.Cmd
	// Hosts and Resolv are files that the program finds at /etc/hosts and /etc/resolv.conf; empty leaves the machine's own.
	Hosts, Resolv string

	netns string
	done  chan struct{}
	err   error
}

// Command prepares a program to be run in a Pod. A context that ends kills it, with all processes that it started and that
// stayed in its process group; the end of this process kills it too.
func (n *Network) Command(ctx context.Context, namespace, name string, args ...string) *Command {
	return NewCommand(ctx, n.PodNetns(namespace, name), args...)
}

// NewCommand prepares a program to be run in the network namespace at path.
func NewCommand(ctx context.Context, path string, args ...string) *Command {
	c := &Command{Cmd: exec.CommandContext(ctx, args[0], args[1:]...), netns: path}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} //nolint:forbidigo // Start has a thread for it
	c.Cancel = c.signalGroup
	c.WaitDelay = time.Second // for a grandchild that keeps the output open
	return c
}

func (c *Command) signalGroup() error { return unix.Kill(-c.Process.Pid, unix.SIGKILL) }

// Run runs the program to its end. The error is an *exec.ExitError when it ran and did not exit with 0.
func (c *Command) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Start starts the program.
func (c *Command) Start() error {
	c.done = make(chan struct{})
	started := make(chan error, 1)
	ownthread.Run(func() {
		defer close(c.done)
		err := c.startHere()
		started <- err
		if err == nil {
			// On this thread: the program is killed when the thread that started it ends.
			c.err = c.Cmd.Wait()
		}
	})
	if err := <-started; err != nil {
		return fmt.Errorf("cannot run %s in %s: %w", c.Args[0], c.netns, err)
	}
	return nil
}

// Wait waits for the program's end. It may be called more than once, and concurrently.
func (c *Command) Wait() error {
	<-c.done
	return c.err
}

// Done is closed at the end of a program that was started.
func (c *Command) Done() <-chan struct{} { return c.done }

// Kill kills a program that was started, with its process group, and waits for its end.
func (c *Command) Kill() {
	select {
	case <-c.done:
	default:
		_ = c.signalGroup()
		<-c.done
	}
}

// startHere puts the calling thread where the program is to run, for good, and starts the program from it.
func (c *Command) startHere() error {
	space, err := netns.GetFromPath(c.netns)
	if err != nil {
		return fmt.Errorf("cannot open its network namespace: %w", err)
	}
	defer space.Close() //nolint:errcheck // nothing depends on it
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot get a mount namespace (it needs root): %w", err)
	}
	// Mounts made here stay here; namespaces that are deleted there go from here too.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("cannot keep its mounts to itself: %w", err)
	}
	if err := netns.Set(space); err != nil {
		return fmt.Errorf("cannot enter its network namespace: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil { // /sys/class/net is the mounter's
		return fmt.Errorf("cannot mount its /sys: %w", err)
	}
	for _, file := range [][2]string{{c.Hosts, "/etc/hosts"}, {c.Resolv, "/etc/resolv.conf"}} {
		if file[0] == "" {
			continue
		}
		if err := unix.Mount(file[0], file[1], "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cannot show it %s as %s (both must exist): %w", file[0], file[1], err)
		}
	}
	return c.Cmd.Start()
}
