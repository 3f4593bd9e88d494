package launcher

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// BeNice adds to the niceness of the calling thread, and so of what it starts.
func BeNice(nice int) error {
	if nice == 0 {
		return nil
	}
	inverted, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // 40..1
	if err == nil {
		err = unix.Setpriority(unix.PRIO_PROCESS, 0, min(20-inverted+nice, MaxNice))
	}
	return os.NewSyscallError("setpriority", err)
}

// DropPrivileges takes from the calling thread, and so from what it starts, every capability but those named, for good, and the
// ways to win new ones. The engine parses what strangers send.
func DropPrivileges(keep ...uintptr) error {
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if slices.Contains(keep, c) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		switch {
		case errors.Is(err, unix.EINVAL): // a kernel that has fewer
		case errors.Is(err, unix.EPERM): // without CAP_SETPCAP, somebody has narrowed the bounds already
		case err != nil:
			return os.NewSyscallError("prctl PR_CAPBSET_DROP", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_NO_NEW_PRIVS", err)
	}
	return nil
}
