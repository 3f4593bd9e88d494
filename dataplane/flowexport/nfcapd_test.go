package flowexport

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long tests wait for what should come.
const patience = 45 * time.Second

// nfcapd is a running nfcapd of Debian's nfdump.
type nfcapd struct {
	t       testing.TB
	dir     string
	address string
}

// newNfcapd starts one on a free port.
func newNfcapd(t testing.TB) *nfcapd {
	t.Helper()
	for _, program := range []string{"nfcapd", "nfdump"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("this test needs %s: run hack/install-deps.sh", program)
		}
	}
	for range 10 {
		// Another program may be faster to take the port.
		probe, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		n := &nfcapd{t: t, dir: t.TempDir(), address: probe.LocalAddr().String()}
		_ = probe.Close()
		if n.start() {
			return n
		}
	}
	t.Fatal("nfcapd takes no port")
	return nil
}

func (n *nfcapd) start() bool {
	_, port, _ := net.SplitHostPort(n.address)
	log := &safeBuffer{}
	cmd := exec.Command("nfcapd", "-w", n.dir, "-b", "127.0.0.1", "-p", port, "-t", "2", "-y", "-B", "4000000")
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = log, log, patience
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	for began := time.Now(); ; {
		if time.Since(began) > patience {
			_ = cmd.Process.Kill()
			n.t.Fatalf("nfcapd does not start: %s", log.text())
		}
		select {
		case <-ended:
			n.t.Logf("nfcapd: %s", log.text())
			return false
		case <-time.After(20 * time.Millisecond):
		}
		if _, err := os.Stat(filepath.Join(n.dir, fmt.Sprintf("nfcapd.current.%d", cmd.Process.Pid))); err == nil && listens(port) {
			break
		}
	}
	n.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-ended
		}
		if n.t.Failed() {
			n.t.Logf("nfcapd: %s", log.text())
		}
	})
	return true
}

// listens tells whether somebody has a UDP socket on the port.
func listens(port string) bool {
	var number int
	_, _ = fmt.Sscan(port, &number)
	// Not /proc/net: that is the first thread's, which may have ended in another namespace.
	text, _ := os.ReadFile("/proc/thread-self/net/udp")
	return strings.Contains(string(text), fmt.Sprintf("0100007F:%04X", number))
}

// flows gives what nfdump reads of what nfcapd has written.
func (n *nfcapd) flows() []map[string]any {
	n.t.Helper()
	files, err := filepath.Glob(filepath.Join(n.dir, "nfcapd.2*"))
	if err != nil {
		n.t.Fatal(err)
	}
	var all []map[string]any
	for _, file := range files {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		out, err := exec.CommandContext(ctx, "nfdump", "-q", "-N", "-r", file, "-o", "json").Output()
		cancel()
		if err != nil || bytes.HasPrefix(out, []byte("No matching flows")) {
			continue // it is being written, or empty
		}
		var some []map[string]any
		if err := json.Unmarshal(slices.Concat([]byte("["), out, []byte("]")), &some); err != nil {
			n.t.Fatalf("nfdump: %v: %s", err, out)
		}
		all = append(all, some...)
	}
	return all
}

// wait waits until there are so many flows.
func (n *nfcapd) wait(count int) []map[string]any {
	n.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		all := n.flows()
		if len(all) >= count {
			return all
		}
		if time.Now().After(end) {
			n.t.Fatalf("%d flows came, not %d: %v", len(all), count, all)
		}
	}
}

// safeBuffer takes what a program prints.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
