// Package threadtest ends threads, for tests of what must outlive them.
package threadtest

import (
	"errors"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/ownthread"
)

// OnEnding runs f on a thread, and returns when that thread has ended. A test that fails in f ends.
func OnEnding(f func()) {
	var tid int
	var done sync.WaitGroup
	done.Add(1)
	failed := true
	ownthread.Run(func() {
		defer done.Done() // also when a test fails, which ends the goroutine
		tid = unix.Gettid()
		f()
		failed = false
	})
	done.Wait()
	for !errors.Is(unix.Tgkill(unix.Getpid(), tid, 0), unix.ESRCH) {
		time.Sleep(time.Millisecond)
	}
	if failed {
		runtime.Goexit()
	}
}

// most is more threads than a test process has idle at any time.
const most = 64

// EndIdle ends every thread of this process that has nothing to do, the caller's too, but for the first, which cannot end: a thread
// ends with a goroutine that is still locked to it.
func EndIdle() {
	var locked, ended sync.WaitGroup
	locked.Add(most)
	for range most {
		ended.Go(func() {
			runtime.LockOSThread() // and not unlocked
			if unix.Gettid() == unix.Getpid() {
				defer runtime.UnlockOSThread()
			}
			locked.Done()
			locked.Wait() // each has another thread: idle ones first, since the runtime makes none while there are any
		})
	}
	ended.Wait()
}
