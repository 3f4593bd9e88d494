package engine

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/ownthread/threadtest"
)

// An engine that ends with this process does not end with the thread that started it, nor with any other: the connections through it
// would hang.
func TestEngineOutlivesThreads(t *testing.T) {
	n := newTestNet(t)
	n.web(t)
	var e *Engine
	threadtest.OnEnding(func() { e = n.start(t, n.config(t), testRules(t)) })
	pid := e.Status().PID
	conn := n.mustDial(t)
	mustGet(t, conn, "/public/a")
	threadtest.EndIdle()
	time.Sleep(100 * time.Millisecond)
	mustGet(t, conn, "/public/a")
	if st := e.Status(); st.PID != pid || !st.Health.Healthy {
		t.Errorf("%+v, and it was process %d", st, pid)
	}
}

// Nor does one that judges a capture, whose end it is still waiting for.
func TestReplayOutlivesThreads(t *testing.T) {
	capture, err := os.ReadFile("../../test/replay/testdata/shop.pcap")
	if err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe.pcap")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	o := Offline{Binary: requireSuricata(t), Dir: t.TempDir(), Rules: Rules{Detect: []byte("alert ip any any -> any any (sid:1;)\n")}}
	ended := make(chan error, 1)
	var report OfflineReport
	go func() {
		var err error
		report, err = o.Replay(t.Context(), pipe, func([]byte) error { return nil })
		ended <- err
	}()
	var write *os.File
	waitFor(t, 10*time.Second, "reading the capture", func() bool {
		write, err = os.OpenFile(pipe, os.O_WRONLY|unix.O_NONBLOCK, 0) // fails until somebody reads
		return err == nil
	})
	threadtest.EndIdle()
	time.Sleep(100 * time.Millisecond)
	if _, err := write.Write(capture); err != nil {
		t.Error(err)
	}
	_ = write.Close()
	if err := <-ended; err != nil || report.Packets == 0 {
		t.Errorf("%d packets were judged: %v", report.Packets, err)
	}
}
