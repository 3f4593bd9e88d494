package load

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
)

// resetLog keeps what a node says of the connections that it resets, and why, and of the packets that it holds back.
type resetLog struct {
	mu    sync.Mutex
	lines []string
}

func (r *resetLog) logger() logr.Logger {
	return funcr.New(func(prefix, args string) {
		if !strings.Contains(args, `"msg"="Reset"`) && !strings.Contains(args, `"msg"="Held back"`) {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lines = append(r.lines, prefix+" "+args)
	}, funcr.Options{Verbosity: 1, LogTimestamp: true, TimestampFormat: "05.000"})
}

// about gives what was said of a client's port.
func (r *resetLog) about(port uint16) (lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		if strings.Contains(line, fmt.Sprintf(":%d\"", port)) {
			lines = append(lines, line)
		}
	}
	return lines
}

// blame tells when requests failed, and what the node did to the connections of the first of them: it reset them, and why, or held a packet
// of theirs back, again and again. Where it did neither, somebody else did something.
func (c *clients) blame(t *testing.T, r *resetLog) {
	t.Helper()
	if len(c.failed) == 0 {
		return
	}
	first, last := c.failed[0], c.failed[0]
	for _, f := range c.failed {
		if f.answered.Before(first.answered) {
			first = f
		}
		if f.answered.After(last.answered) {
			last = f
		}
	}
	t.Logf("%d requests failed, the first at %s, the last %s later", len(c.failed), first.answered.Format("05.000"), last.answered.Sub(first.answered))
	for _, f := range c.failed[:min(len(c.failed), 40)] {
		lines := r.about(f.port)
		if f.port != 0 && len(lines) == 0 {
			t.Logf("port %d: the node neither reset it nor held anything back", f.port)
		}
		for _, line := range lines[max(0, len(lines)-10):] {
			t.Logf("port %d: %s", f.port, line)
		}
	}
}
