package agent

import (
	"encoding/json"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Verdict events are written at once, and in the long run so many a second; further ones are counted and not written.
const (
	verdictBurst = 1000
	verdictRate  = 100
)

// verdictWriter writes a line of JSON for each verdict event.
type verdictWriter struct {
	out  io.Writer
	lost atomic.Uint64

	mu     sync.Mutex
	tokens float64
	last   time.Time
	told   uint64 // of lost
}

// lostEvents is the line that says how many events were not written since the line before.
type lostEvents struct {
	Time time.Time `json:"time"`
	Lost uint64    `json:"lostVerdicts"`
}

func newVerdictWriter(out io.Writer) *verdictWriter {
	return &verdictWriter{out: out, tokens: verdictBurst}
}

func (w *verdictWriter) write(e verdict.Event, now time.Time) {
	if w.out == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.last.IsZero() {
		w.tokens = min(verdictBurst, w.tokens+now.Sub(w.last).Seconds()*verdictRate)
	}
	w.last = now
	if w.tokens < 1 {
		w.lost.Add(1)
		return
	}
	w.tokens--
	if lost := w.lost.Load(); lost > w.told {
		w.line(lostEvents{now, lost - w.told})
		w.told = lost
	}
	w.line(e)
}

func (w *verdictWriter) line(what any) {
	text, err := json.Marshal(what)
	if err == nil {
		_, err = w.out.Write(append(text, '\n'))
	}
	if err != nil {
		w.lost.Add(1)
	}
}

// onVerdict takes in what the node tells of one request or connection.
func (a *Agent) onVerdict(e verdict.Event) {
	a.counters.add(e)
	a.metrics.verdict(e)
	a.verdicts.write(e, time.Now())
}
