package launcher

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// LimitMemory bounds the memory of each program that this process starts from now on, in bytes, and of this process itself, which needs
// little: a Suricata that wants more ends, instead of having the kernel end all that are in its container. It also forbids dumps of
// their memory.
func LimitMemory(bytes uint64) error {
	return errors.Join(
		os.NewSyscallError("setrlimit RLIMIT_DATA", unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: bytes, Max: bytes})),
		os.NewSyscallError("setrlimit RLIMIT_CORE", unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})),
	)
}
