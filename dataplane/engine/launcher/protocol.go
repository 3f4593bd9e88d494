package launcher

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// A call is a connection: one line of JSON each way. Only OpWait is answered late, when the process ends; a connection that ends
// without an answer means that there is no launcher any more, and so no Suricata.

// Ops.
const (
	// OpStatus asks for the launcher's identity and what runs.
	OpStatus = "status"
	// OpVersion runs Suricata with -V.
	OpVersion = "version"
	// OpCheck runs Suricata with Args, "-T" among them, to its end. It is killed when the caller hangs up.
	OpCheck = "check"
	// OpStart starts Suricata with Args, when none runs.
	OpStart = "start"
	// OpWait waits until the process called Process ends.
	OpWait = "wait"
	// OpSignal sends Signal to the process called Process.
	OpSignal = "signal"
)

// Signals.
const (
	// SignalTerm asks Suricata to end in order.
	SignalTerm = "TERM"
	// SignalKill ends it at once.
	SignalKill = "KILL"
)

// MaxNice is the highest niceness.
const MaxNice = 19

// Bounds of a line, in bytes.
const (
	maxRequest = 64 << 10
	maxReply   = 4 << 20
)

// Request is what the agent asks.
type Request struct {
	Op   string   `json:"op"`
	Args []string `json:"args,omitempty"`
	// Nice is added to the niceness of OpStart and OpCheck, 0..MaxNice.
	Nice    int    `json:"nice,omitempty"`
	Process string `json:"process,omitempty"`
	Signal  string `json:"signal,omitempty"`
	// Fresh has OpStart empty all of EngineDir first, and not only what is no cache.
	Fresh bool `json:"fresh,omitempty"`
	// Seconds bounds OpCheck; 0 stands for the longest that is allowed.
	Seconds int `json:"seconds,omitempty"`
}

// Reply is what the launcher answers.
type Reply struct {
	// Error is a sentence; when it is set, the request was refused, and all else means nothing.
	Error string `json:"error,omitempty"`
	// Instance is another one for each start of the launcher.
	Instance string `json:"instance,omitempty"`
	// Netns is the inode of the network namespace that the launcher is in.
	Netns uint64 `json:"netns,omitempty"`
	// Process is the Suricata that runs, or the one that was started.
	Process *Process `json:"process,omitempty"`
	// Exit tells how a process ended (OpWait, OpCheck, OpVersion).
	Exit *Exit `json:"exit,omitempty"`
	// Output is the end of what the running process has said.
	Output []byte `json:"output,omitempty"`
}

// Process is a running Suricata.
type Process struct {
	// Name is never another process's.
	Name string `json:"name"`
	// PID is its number in the launcher's container.
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
}

// Exit is how a process ended.
type Exit struct {
	// How is a few words: "exit status 1", "signal: killed".
	How string `json:"how"`
	// OK tells that it ended with status 0.
	OK bool `json:"ok"`
	// TimedOut tells that it was killed since its time was over.
	TimedOut bool `json:"timedOut,omitempty"`
	// Cut tells that a part of what it said is missing.
	Cut bool `json:"cut,omitempty"`
	// Stdout and Stderr are what it said; of much output the middle is missing. For the engine itself, Stderr is the end of both.
	Stdout []byte `json:"stdout,omitempty"`
	Stderr []byte `json:"stderr,omitempty"`
}

// readLine reads one line of at most limit bytes and decodes it into v. It refuses what it does not know, and more than one value.
func readLine(r io.Reader, limit int, v any) error {
	line, err := bufio.NewReaderSize(io.LimitReader(r, int64(limit)+1), min(limit, 64<<10)).ReadBytes('\n')
	if len(line) > limit {
		return fmt.Errorf("a line is longer than %d bytes", limit)
	}
	if errors.Is(err, io.EOF) && len(line) > 0 {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	return decode(line, v)
}

func decode(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("a line makes no sense: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("a line makes no sense: something follows its value")
	}
	return nil
}

func writeLine(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}
