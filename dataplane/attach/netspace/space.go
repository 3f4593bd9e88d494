package netspace

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Current is the path of the network namespace in which this process runs.
const Current = "/proc/self/ns/net"

// Space is an open network namespace. It stays what it is when its name is deleted, and keeps the namespace alive until
// Close.
type Space struct {
	path   string
	handle netns.NsHandle
}

// Open opens the network namespace at path: a file below /run/netns, /proc/<pid>/ns/net, or "" for Current.
func Open(path string) (*Space, error) {
	if path == "" {
		path = Current
	}
	handle, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the network namespace %s: %w", path, err)
	}
	return &Space{path: path, handle: handle}, nil
}

// Close gives up the namespace.
func (s *Space) Close() error { return s.handle.Close() }

// Path is what the namespace was opened by.
func (s *Space) Path() string { return s.path }

// Fd is the namespace's file descriptor, as netlink messages that move an interface want it.
func (s *Space) Fd() int { return int(s.handle) }

// Handle is the same for the netlink package.
func (s *Space) Handle() *netns.NsHandle { return &s.handle }

// Do runs fn on a thread that is in the namespace, and returns fn's error. Sockets that fn opens and processes that it starts
// belong to the namespace for good; goroutines that it starts do not. A panic in fn reaches the caller of Do.
func (s *Space) Do(fn func() error) error {
	type outcome struct {
		err      error
		panicked any
	}
	done := make(chan outcome, 1)
	go func() {
		var out outcome
		defer func() { done <- out }()
		home, err := enter(s)
		if err != nil {
			out.err = err
			return
		}
		defer home()
		defer func() { out.panicked = recover() }()
		out.err = fn()
	}()
	out := <-done
	if out.panicked != nil {
		panic(out.panicked)
	}
	return out.err
}

// enter brings the calling goroutine's thread into s. The function that it returns brings the thread home and frees it. A
// thread that cannot go home is left locked: the runtime ends it together with its goroutine.
func enter(s *Space) (home func(), err error) {
	runtime.LockOSThread()
	was, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("cannot tell this thread's network namespace: %w", err)
	}
	if err := netns.Set(s.handle); err != nil {
		_ = was.Close()
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("cannot enter the network namespace %s (it needs root, or CAP_SYS_ADMIN): %w", s.path, err)
	}
	return func() {
		defer was.Close() //nolint:errcheck // nothing depends on it
		if netns.Set(was) == nil {
			runtime.UnlockOSThread()
		}
	}, nil
}

// Do runs fn in the namespace at path. See Space.Do.
func Do(path string, fn func() error) error {
	s, err := Open(path)
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // nothing depends on it
	return s.Do(fn)
}

// Identity tells this namespace from every other, also from one that later has the same path: its inode number and, from
// Linux 5.14 on, its cookie, which a kernel never gives out twice.
func (s *Space) Identity() (string, error) {
	inode, err := s.inode()
	if err != nil {
		return "", err
	}
	var cookie uint64
	err = s.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("cannot open a socket in %s: %w", s.path, err)
		}
		defer unix.Close(fd) //nolint:errcheck // nothing depends on it
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		if errors.Is(err, unix.ENOPROTOOPT) {
			return nil
		}
		return err
	})
	return fmt.Sprintf("%d:%d", inode, cookie), err
}

func (s *Space) inode() (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(s.handle), &stat); err != nil {
		return 0, fmt.Errorf("cannot look at the network namespace %s: %w", s.path, err)
	}
	return stat.Ino, nil
}

// Same says whether a and b are paths of one namespace.
func Same(a, b string) (bool, error) {
	var stats [2]unix.Stat_t
	for i, path := range []string{a, b} {
		if err := unix.Stat(path, &stats[i]); err != nil {
			return false, &os.PathError{Op: "stat", Path: path, Err: err}
		}
	}
	return stats[0].Ino == stats[1].Ino && stats[0].Dev == stats[1].Dev, nil
}
