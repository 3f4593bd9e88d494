package netspace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Directory holds the namespaces that have a name, as `ip netns` does.
const Directory = "/run/netns"

// Path is where the namespace of this name is found.
func Path(name string) string { return filepath.Join(Directory, name) }

// Create makes an empty network namespace with a name of its own and returns its path. It fails with os.ErrExist when the
// name is taken.
func Create(name string) (path string, err error) {
	path = Path(name)
	if err := os.MkdirAll(Directory, 0o755); err != nil {
		return "", fmt.Errorf("cannot make the directory of named network namespaces: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return "", fmt.Errorf("cannot name a network namespace %s: %w", name, err)
	}
	_ = file.Close()
	done := make(chan error, 1)
	go func() { done <- createAt(path) }()
	if err := <-done; err != nil {
		return "", errors.Join(fmt.Errorf("cannot create the network namespace %s (it needs root): %w", name, err), os.Remove(path))
	}
	return path, nil
}

// createAt leaves the thread in the old namespace again, or locked, as enter does.
func createAt(path string) error {
	runtime.LockOSThread()
	was, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer was.Close() //nolint:errcheck // nothing depends on it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	if netns.Set(was) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

// Delete removes a namespace's name. The namespace itself, with all its interfaces, ends when no process and no open file
// holds it any more. A name that is not there is not an error.
func Delete(name string) error {
	path := Path(name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot unmount the network namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove the network namespace %s: %w", name, err)
	}
	return nil
}

// List gives the names that begin with prefix, sorted.
func List(prefix string) ([]string, error) {
	entries, err := os.ReadDir(Directory)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot list the named network namespaces: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), prefix) {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}
