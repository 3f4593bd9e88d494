package ownthread_test

import (
	"errors"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/ownthread"
	"github.com/meerkat-dev/meerkat/dataplane/ownthread/threadtest"
)

// startOnEnding starts a program from a thread that has ended then.
func startOnEnding(t *testing.T, cmd *exec.Cmd, start func(*exec.Cmd) error) {
	threadtest.OnEnding(func() {
		if err := start(cmd); err != nil {
			t.Error(err)
		}
	})
}

// end ends a program and tells by which signal it ended.
func end(cmd *exec.Cmd) syscall.Signal {
	_ = cmd.Process.Signal(unix.SIGTERM)
	_ = cmd.Wait()
	return cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
}

// What Start is for: the same program, started by its own Start, dies with the thread.
func TestProgramOutlivesThreads(t *testing.T) {
	tied := exec.Command("sleep", "60")
	tied.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL} //nolint:forbidigo // it is the point of this test
	startOnEnding(t, tied, (*exec.Cmd).Start)
	if how := end(tied); how != unix.SIGKILL {
		t.Errorf("a program whose thread has ended was ended by %v: then Start is not needed", how)
	}
	kept := exec.Command("sleep", "60")
	startOnEnding(t, kept, ownthread.Start)
	threadtest.EndIdle()
	if how := end(kept); how != unix.SIGTERM {
		t.Errorf("it was ended by %v, while the process lives", how)
	}
}

func TestProgramThatEnds(t *testing.T) {
	cmd := exec.Command("sh", "-c", "exit 7")
	if err := ownthread.Start(cmd); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("Wait tells %v", err)
	}
	if err := ownthread.Start(exec.Command("/no/such/program")); err == nil {
		t.Error("a program that is not there was started")
	}
}

func TestRunIsNeverOnTheFirstThread(t *testing.T) {
	for range 100 {
		done := make(chan int)
		ownthread.Run(func() { done <- unix.Gettid() })
		if <-done == unix.Getpid() {
			t.Fatal("f ran on the first thread, which cannot end")
		}
	}
}
