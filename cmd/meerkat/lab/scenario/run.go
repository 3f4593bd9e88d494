package scenario

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Options of Run.
type Options struct {
	// Progress gets one line per step as it ends; nil: nothing.
	Progress io.Writer
	// Patience multiplies how long answers and verdict events are awaited and steps are tried again, for slow machines; 0 stands
	// for 1. What is judged stays the same.
	Patience float64
	// Tried, when set, is told of each request after it was judged, and before anything else is done: the world is still as it was.
	Tried func(Tried)
}

// Run does the steps one after another, and judges them. It always gives a report; when ctx ends early, the steps that were not
// done stand in it as failed.
func Run(ctx context.Context, s *Scenario, w World, o Options) *Report {
	r := &runner{scenario: s, world: w, timeouts: s.Timeouts.withDefaults(), patience: cmp.Or(o.Patience, 1), progress: o.Progress, tried: o.Tried}
	r.timeouts.Answer, r.timeouts.Verdict = r.patient(r.timeouts.Answer), r.patient(r.timeouts.Verdict)
	start := time.Now()
	for i := range s.Steps {
		r.step(ctx, i)
	}
	r.recheck()
	report := &Report{Scenario: s.Name, Took: time.Since(start)}
	for _, step := range r.done {
		for _, row := range step {
			report.Rows = append(report.Rows, row.Row)
		}
	}
	return report
}

// runner is one Run.
type runner struct {
	scenario *Scenario
	world    World
	timeouts Timeouts
	patience float64
	progress io.Writer
	tried    func(Tried)
	done     [][]*judged
}

// patient is a time limit on a machine as slow as this one.
func (r *runner) patient(d time.Duration) time.Duration {
	return time.Duration(float64(d) * r.patience)
}

// judged is a row, and what to look at once more when all steps are done; again gives a sentence when it went wrong after all.
type judged struct {
	Row
	again func() string
}

func (r *runner) step(ctx context.Context, i int) {
	s := &r.scenario.Steps[i]
	start := time.Now()
	var rows []*judged
	if ctx.Err() != nil {
		rows = []*judged{{Row: Row{Problem: "not done: the run was interrupted"}}}
	} else {
		rows = r.repeat(ctx, s)
	}
	name := s.title(rows)
	for n, row := range rows {
		row.Step, row.Index, row.Line, row.First = name, i+1, s.Line, n == 0
		row.Passed, row.Cell = row.Problem == "", s.Cell
	}
	r.done = append(r.done, rows)
	r.tell(i+1, name, rows, time.Since(start))
}

// repeat does a step as often as it asks, and gives the rows of the last time, or of the first that went wrong.
func (r *runner) repeat(ctx context.Context, s *Step) []*judged {
	deadline := time.Now().Add(r.patient(s.Within))
	if s.Within == 0 { // what is tried once only must not fail since the machine is busy
		usual := r.timeouts
		defer func() { r.timeouts = usual }()
		r.timeouts.Answer, r.timeouts.Verdict = onceLonger*usual.Answer, onceLonger*usual.Verdict
	}
	servers := map[string]bool{}
	for n := 1; ; n++ {
		began := time.Now()
		rows := r.once(ctx, s)
		if s.Alerts != nil {
			rows = append(rows, r.raised(ctx, s, rows, began)...)
		}
		wrong := false
		for _, row := range rows {
			row.Times = n
			wrong = wrong || row.Problem != ""
			if row.Server != "" {
				servers[row.Server] = true
			}
		}
		again := n < s.Repeat && !wrong
		if s.Endpoints > 0 && !wrong {
			again = again && (s.Endpoints == 1 || len(servers) < s.Endpoints)
			if (!again || s.Endpoints == 1) && len(servers) != s.Endpoints {
				rows[0].Problem = fmt.Sprintf("answered by %s, and not by %d different Pods",
					strings.Join(slices.Sorted(maps.Keys(servers)), ", "), s.Endpoints)
				again = false
			}
		}
		if s.Within > 0 {
			again = wrong && time.Now().Before(deadline)
		}
		if !again || ctx.Err() != nil {
			return rows
		}
	}
}

// onceLonger is how many times as long as others a step may wait that is not tried again.
const onceLonger = 3

func (r *runner) once(ctx context.Context, s *Step) []*judged {
	switch {
	case s.Probe != nil:
		return r.probe(ctx, s.Probe)
	case s.Connection != nil:
		return r.connection(ctx, s.Connection)
	case s.Raw != nil:
		return r.raw(ctx, s.Raw)
	case s.HTTP2 != nil:
		return r.http2(ctx, s.HTTP2)
	case s.TLS != nil:
		return r.tls(ctx, s.TLS)
	case s.DNS != nil:
		return r.dns(ctx, s.DNS)
	case s.Apply != nil:
		return r.apply(ctx, s.Apply)
	case s.Delete != nil:
		return r.delete(ctx, s.Delete)
	case s.Engine != nil:
		return r.engine(ctx, s.Engine)
	case s.Exec != nil:
		return r.exec(ctx, s.Exec)
	}
	return []*judged{{Row: Row{Problem: "the step asks for nothing"}}}
}

// recheck looks once more at what the servers and the engine said in the meantime: a denied request that came late, or a verdict
// that speaks against an allowed one.
func (r *runner) recheck() {
	for _, step := range r.done {
		for _, row := range step {
			if row.Passed && row.again != nil {
				if problem := row.again(); problem != "" {
					row.Passed, row.Problem = false, problem
				}
			}
		}
	}
}

// tell writes the step's progress line.
func (r *runner) tell(n int, name string, rows []*judged, took time.Duration) {
	if r.progress == nil {
		return
	}
	mark, problem := "ok  ", ""
	for _, row := range rows {
		if row.Problem != "" {
			mark, problem = "FAIL", ": "+row.Problem
			break
		}
	}
	_, _ = fmt.Fprintf(r.progress, "%s %*d/%d %s (%s)%s\n", mark, len(fmt.Sprint(len(r.scenario.Steps))), n, len(r.scenario.Steps),
		name, took.Round(time.Millisecond), problem)
}

// title is the step's name, or else what it does.
func (s *Step) title(rows []*judged) string {
	if s.Name != "" {
		return s.Name
	}
	kinds := []struct {
		name string
		set  bool
	}{
		{"probe", s.Probe != nil}, {"connection", s.Connection != nil}, {"raw", s.Raw != nil}, {"http2", s.HTTP2 != nil},
		{"tls", s.TLS != nil}, {"dns", s.DNS != nil}, {"apply", s.Apply != nil},
		{"delete", s.Delete != nil}, {"engine", s.Engine != nil}, {"exec", s.Exec != nil},
	}
	for _, k := range kinds {
		if k.set && len(rows) > 0 && rows[0].Request != "" {
			return k.name
		}
	}
	return fmt.Sprintf("line %d", s.Line)
}
