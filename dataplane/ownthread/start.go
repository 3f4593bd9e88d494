package ownthread

import (
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts a program as its Start does, and has the kernel kill it when this process dies, however it dies; not before.
//
// Pdeathsig alone kills programs out of the blue: the kernel sends that signal when the parent's *thread* ends that started the program
// (prctl(2), PR_SET_PDEATHSIG), and Go ends a thread with each goroutine that is locked to it still, as those are that have entered
// another network namespace. So the program gets a thread that waits for its end.
func Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL //nolint:forbidigo // its thread waits for its end
	started := make(chan error, 1)
	Run(func() {
		err := cmd.Start()
		if err != nil {
			started <- err
			return
		}
		pid := cmd.Process.Pid
		started <- nil
		awaitEnd(pid)
	})
	return <-started
}

// awaitEnd waits until a child has ended, and leaves it to whoever calls its Wait.
func awaitEnd(pid int) {
	for {
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR { //nolint:errorlint // a bare errno
			return // also when somebody has waited for it
		}
	}
}
