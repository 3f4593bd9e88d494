package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// down ends every process of the cluster, by ending the first of each machine, and removes what the kernel does not remove with them.
func (c *cluster) down() error {
	deadline := time.Now().Add(30 * time.Second)
	for told := false; ; time.Sleep(20 * time.Millisecond) {
		running, err := c.machines()
		if err != nil {
			return err
		}
		if len(running) == 0 {
			break
		}
		if !told {
			c.say("stopping %s", names(running))
			told = true
		}
		for _, pid := range running {
			_ = syscall.Kill(pid, syscall.SIGKILL) // and the kernel all others of its namespace
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s do not end, even when killed: %v", names(running), running)
		}
	}
	if err := removeCgroups("meerkat-cluster-" + c.name); err != nil {
		return err
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return err
	}
	_ = os.Remove(filepath.Dir(c.dir)) // when no other cluster is there
	return nil
}
