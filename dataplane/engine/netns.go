package engine

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// inNetns calls f on a thread that is in the network namespace at path ("" is the caller's own). What f opens or starts
// belongs to that namespace; f must not leave goroutines behind that rely on it.
func inNetns(path string, f func() error) error {
	if path == "" {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		// A goroutine that ends while it is locked takes its thread along, so a thread that could not be brought back
		// never runs other code in the wrong namespace.
		runtime.LockOSThread()
		restore, err := enterNetns(path)
		if err != nil {
			done <- err
			return
		}
		err = f()
		if restore() == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// enterNetns moves the calling thread, which must be locked, into the namespace and returns the way back.
func enterNetns(path string) (restore func() error, err error) {
	target, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open network namespace %s: %w", path, err)
	}
	defer target.Close() //nolint:errcheck // read-only
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("cannot open this thread's own network namespace: %w", err)
	}
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		_ = own.Close()
		return nil, fmt.Errorf("cannot enter network namespace %s (needs CAP_SYS_ADMIN): %w", path, err)
	}
	return func() error {
		defer own.Close() //nolint:errcheck // read-only
		return unix.Setns(int(own.Fd()), unix.CLONE_NEWNET)
	}, nil
}

// netnsID names a network namespace by its inode, which is the same by whatever path it is reached.
func netnsID(path string) (uint64, error) {
	if path == "" {
		path = "/proc/thread-self/ns/net"
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("cannot look at network namespace %s: %w", path, err)
	}
	return st.Ino, nil
}
