package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
)

// defaultName is the name of a lab that is left running.
const defaultName = "default"

// upTimeout bounds how long a lab may take to come up.
const upTimeout = 90 * time.Second

func newLabUp(f *labFlags) *cobra.Command {
	var files []string
	var nodes int
	c := &cobra.Command{
		Use:   "up [-f FILE...]",
		Short: "Build a lab and leave it running",
		Example: `  meerkat lab up -f objects.yaml -f policy.yaml
  meerkat lab up --name other --nodes 2 -f objects.yaml
  meerkat lab exec shop/client -- curl -sS http://web.shop/public/a`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			objects := &manifests.Objects{}
			if len(files) > 0 {
				var err error
				if objects, err = loadObjects(files); err != nil {
					return err
				}
			}
			if err := needRoot(); err != nil {
				return err
			}
			return labUp(c.Context(), f, nodes, objects)
		},
	}
	c.Flags().StringSliceVarP(&files, "filename", "f", nil, "YAML file with objects, or directory of them; may be given several times")
	c.Flags().IntVar(&nodes, "nodes", 1, "how many nodes the lab has")
	return c
}

// labUp starts the daemon that keeps the lab, waits until it answers, and applies the objects.
func labUp(ctx context.Context, f *labFlags, nodes int, objects *manifests.Objects) error {
	say := progress()
	name := f.nameOr(defaultName)
	say(fmt.Sprintf("building the lab %s", name))
	daemon, err := startDaemon(f, name, nodes)
	if err != nil {
		return exitError{exitUnable, err}
	}
	client := lab.NewClient(f.stateDir, name)
	if err := daemon.answers(ctx, client); err != nil {
		daemon.end()
		return err
	}
	say(fmt.Sprintf("applying %d Pods, %d Services, %d policies, %d inspections",
		len(objects.Pods), len(objects.Services), len(objects.L7Policies), len(objects.TrafficInspections)))
	status, err := client.Apply(ctx, objects)
	if err != nil {
		daemon.end()
		return fmt.Errorf("the lab is taken down again: %w", err)
	}
	say("ready")
	return printStatus(os.Stdout, status, "table")
}

// daemon is the process that keeps a lab.
type daemon struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed at the process's end
}

func startDaemon(f *labFlags, name string, nodes int) (*daemon, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(f.stateDir, 0o755); err != nil {
		return nil, err
	}
	log, err := os.CreateTemp(f.stateDir, ".up-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the child has it
	args := []string{"lab", "daemon", "--name", name, "--state-dir", f.stateDir, "--nodes", strconv.Itoa(nodes), "--datapath", f.datapath, "--kube-proxy", f.proxy}
	if f.allowed {
		args = append(args, "--allowed")
	}
	if f.verbose {
		args = append(args, "--verbose")
	}
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // outlives this terminal
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, os.Remove(log.Name()))
	}
	d := &daemon{cmd: cmd, log: log.Name(), done: make(chan struct{})}
	go func() {
		defer close(d.done)
		_ = cmd.Wait() // its log tells what went wrong
	}()
	return d, nil
}

// answers waits until the lab is there. The daemon's log becomes the lab's, or the error.
func (d *daemon) answers(ctx context.Context, client *lab.Client) error {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	for {
		if _, err := client.Status(ctx); err == nil {
			return os.Rename(d.log, client.LogFile()) // among the lab's files, which go with it; the daemon still has it open
		}
		select {
		case <-d.done:
			text, _ := os.ReadFile(d.log)
			_ = os.Remove(d.log)
			return exitError{exitUnable, fmt.Errorf("the lab did not come up:\n%s", text)}
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// end takes the lab down again.
func (d *daemon) end() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(40 * time.Second):
		_ = d.cmd.Process.Kill()
	}
	_ = os.Remove(d.log)
}

func newLabDown(f *labFlags) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "down",
		Short: "Take a lab down, also one whose process was killed; nothing of it is left",
		Example: `  meerkat lab down
  meerkat lab down --name other
  meerkat lab down --all`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needRoot(); err != nil {
				return err
			}
			names := []string{f.nameOr(defaultName)}
			if all {
				var err error
				if names, err = network.List(); err != nil {
					return err
				}
			}
			var errs []error
			for _, name := range names {
				errs = append(errs, labDown(c.Context(), f, name))
			}
			return errors.Join(errs...)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "take every lab on this machine down")
	return c
}

// labDown asks the lab's process to take it down, and clears away what a process that is gone has left.
func labDown(ctx context.Context, f *labFlags, name string) error {
	if pid := lab.DaemonPID(f.stateDir, name); pid != 0 {
		if err := unix.Kill(pid, unix.SIGTERM); err == nil {
			waitForEnd(ctx, pid)
		}
	}
	if err := network.DestroyByName(name, lab.Dir(f.stateDir, name)); err != nil {
		return exitError{exitUnable, err}
	}
	_ = os.Remove(filepath.Clean(f.stateDir)) // when it is empty now
	return nil
}

func waitForEnd(ctx context.Context, pid int) {
	deadline := time.Now().Add(40 * time.Second)
	for time.Now().Before(deadline) && ctx.Err() == nil && unix.Kill(pid, 0) == nil {
		time.Sleep(20 * time.Millisecond)
	}
}

// newLabDaemon is the process behind `lab up`. It is not for people.
func newLabDaemon(f *labFlags) *cobra.Command {
	var nodes int
	c := &cobra.Command{
		Use:    "daemon",
		Hidden: true,
		Args:   usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			opts := f.options(f.nameOr(defaultName))
			opts.Nodes = nodes
			return lab.RunDaemon(c.Context(), opts)
		},
	}
	c.Flags().IntVar(&nodes, "nodes", 1, "how many nodes the lab has")
	return c
}
