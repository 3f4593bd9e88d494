package ownthread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Run runs f in a goroutine on a thread of its own, which ends with it: what f does to its thread, it does to nobody else. It is never
// the process's first thread, which does not end, and by which others judge the process (/proc/self). Run does not wait for f.
func Run(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return // without unlocking: the thread ends
		}
		// While the first thread is held here, the next goroutine gets another.
		elsewhere := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(elsewhere)
			f()
		}()
		<-elsewhere
		runtime.UnlockOSThread()
	}()
}
