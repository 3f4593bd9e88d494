package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// Destroy takes everything away: processes, namespaces with all interfaces in them, files.
func (n *Network) Destroy() error {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	for _, node := range n.nodes {
		_ = node.space.Close()
	}
	n.nodes, n.pods, n.order = map[string]*node{}, map[podKey]*Pod{}, nil
	return destroy(n.name, n.directory)
}

// DestroyByName does what Destroy does for a lab whose process is gone. A lab that is not there is not an error.
func DestroyByName(name, directory string) error {
	if err := checkName(name); err != nil {
		return err
	}
	return destroy(name, directory)
}

func destroy(name, directory string) error {
	names, err := spacesOf(name)
	if err != nil {
		return err
	}
	if err := errors.Join(endNamespaces(names), os.RemoveAll(directory)); err != nil {
		return fmt.Errorf("cannot take all of the lab %s away: %w", name, err)
	}
	return nil
}

// endNamespaces kills the processes in namespaces, then deletes the namespaces.
func endNamespaces(names []string) error {
	const patience = 5 * time.Second
	inodes := map[string]bool{}
	for _, name := range names {
		var stat unix.Stat_t
		if unix.Stat(netspace.Path(name), &stat) == nil {
			inodes[fmt.Sprintf("net:[%d]", stat.Ino)] = true
		}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		pids, err := processesIn(inodes)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end, although they were killed", pids)
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, netspace.Delete(name))
	}
	return errors.Join(errs...)
}

// processesIn lists the processes, other than this one, whose network namespace is one of these. Zombies have none.
func processesIn(spaces map[string]bool) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if space, err := os.Readlink(filepath.Join("/proc", entry.Name(), "ns/net")); err == nil && spaces[space] {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
