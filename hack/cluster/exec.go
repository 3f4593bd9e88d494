package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// execute runs a command in a machine, with this command's own standard streams.
func (c *cluster) execute(args []string) error {
	if len(args) > 1 && args[1] == "--" {
		args = append(args[:1:1], args[2:]...)
	}
	if len(args) < 2 {
		return errors.New("name a machine and a command: exec node1 -- ip link")
	}
	pid, err := c.machine(args[0])
	if err != nil {
		return err
	}
	cmd := inMachine(pid, args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

// setService stops a service of a machine and keeps it stopped, or starts it again, and waits until that is so.
func (c *cluster) setService(ctx context.Context, stop bool, args []string) error {
	if len(args) != 2 {
		return errors.New("name a machine and a service: stop control-plane kube-apiserver")
	}
	if _, err := c.machine(args[0]); err != nil {
		return err
	}
	dir, name := c.machineDir(args[0]), args[1]
	if _, err := os.Stat(c.serviceLog(args[0], name)); err != nil {
		return fmt.Errorf("%s has no service %q", args[0], name)
	}
	mark := filepath.Join(dir, name+stoppedFile)
	if stop {
		if err := writeFile(mark, nil, 0o600); err != nil {
			return err
		}
	} else if err := os.Remove(mark); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return poll(ctx, time.Minute, func() error {
		_, err := os.Stat(filepath.Join(dir, name+runningFile))
		if running := err == nil; running == stop {
			return fmt.Errorf("%s of %s has not come to what was asked within a minute", name, args[0])
		}
		return nil
	})
}
