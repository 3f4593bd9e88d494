package launcher

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Reap takes leave of processes that ended and whose own parents did not wait for them: the first process of a container is made
// their parent. Children of the launchers themselves are left to those who wait for them.
func (f *Family) Reap(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ended:
		}
		f.reap()
	}
}

// Family knows the launchers' own children. Its zero value is ready.
type Family struct {
	mu   sync.Mutex
	pids map[int]bool
}

// start starts a program; it is a launcher's own until ended is called.
func (f *Family) start(cmd *exec.Cmd) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	if f.pids == nil {
		f.pids = map[int]bool{}
	}
	f.pids[cmd.Process.Pid] = true
	return nil
}

func (f *Family) ended(cmd *exec.Cmd) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pids, cmd.Process.Pid)
}

// reap waits for foreign processes that have ended, up to the first that is a launcher's own: when that one is waited for, and
// another ends, it goes on.
func (f *Family) reap() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		pid := endedChild()
		if pid == 0 || f.pids[pid] {
			return
		}
		if _, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err != nil {
			return
		}
	}
}

// endedChild is a child that has ended and that nobody has waited for yet; 0 when there is none.
func endedChild() int {
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
		return 0
	}
	return siginfoPID(&info)
}

// siginfoPID reads si_pid, which on 64-bit Linux comes after three integers and their padding.
func siginfoPID(info *unix.Siginfo) int {
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), 16)))
}
