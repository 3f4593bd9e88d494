package scenario

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

func (r *runner) apply(ctx context.Context, a *Apply) []*judged {
	return change(ctx, "apply", r.world.Apply, a.File)
}

func (r *runner) delete(ctx context.Context, d *Delete) []*judged {
	return change(ctx, "delete", r.world.Delete, d.File)
}

func change(ctx context.Context, verb string, do func(context.Context, string) error, file string) []*judged {
	row := &judged{Row: Row{Request: verb + " " + filepath.Base(file), Expected: "programmed", Got: "programmed"}}
	start := time.Now()
	if err := do(ctx, file); err != nil {
		row.Got, row.Problem = "error", err.Error()
	}
	row.Elapsed = time.Since(start)
	return []*judged{row}
}

func (r *runner) engine(ctx context.Context, e *Engine) []*judged {
	row := &judged{Row: Row{Request: "SIG" + e.Signal + " to the engine", Expected: "sent", Got: "sent"}}
	start := time.Now()
	select {
	case <-time.After(e.After):
	case <-ctx.Done():
	}
	signal := r.world.Signal
	if e.Signatures {
		row.Request += " of signatures"
		signal = r.world.SignalSignatures
	}
	if err := signal(ctx, e.Signal); err != nil {
		row.Got, row.Problem = "error", err.Error()
	}
	row.Elapsed = time.Since(start)
	return []*judged{row}
}

func (r *runner) exec(ctx context.Context, e *Exec) []*judged {
	row := &judged{Row: Row{
		From: e.Pod.String(), Request: strings.Join(e.Command, " "), Expected: fmt.Sprintf("exit %d", e.ExitCode),
	}}
	start := time.Now()
	got, err := r.world.Exec(ctx, e.Pod, e.Command)
	row.Elapsed = time.Since(start)
	if err != nil {
		row.Got, row.Problem = "error", err.Error()
		return []*judged{row}
	}
	row.Got = fmt.Sprintf("exit %d", got.ExitCode)
	switch {
	case got.ExitCode != e.ExitCode:
		row.Problem = fmt.Sprintf("the program ended with %d, not %d%s", got.ExitCode, e.ExitCode, lastLine(got))
	case !bytes.Contains(got.Stdout, []byte(e.Stdout)):
		row.Problem = fmt.Sprintf("its output does not contain %q%s", e.Stdout, lastLine(got))
	case !bytes.Contains(got.Stderr, []byte(e.Stderr)):
		row.Problem = fmt.Sprintf("its error output does not contain %q%s", e.Stderr, lastLine(got))
	}
	return []*judged{row}
}

// lastLine quotes the last thing that a program said.
func lastLine(r ExecResult) string {
	said := bytes.TrimSpace(r.Stderr)
	if len(said) == 0 {
		said = bytes.TrimSpace(r.Stdout)
	}
	if len(said) == 0 {
		return "; it printed nothing"
	}
	return fmt.Sprintf("; it said last: %s", said[bytes.LastIndexByte(said, '\n')+1:])
}
