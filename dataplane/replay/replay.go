package replay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
)

// Options say how captures are judged.
type Options struct {
	Binary engine.Binary
	// Captures are files, judged one after another, each by an engine that knows nothing of the others.
	Captures []string
	// Dir is a directory for files that are not needed any more when the Result is closed; default is one of the system's.
	Dir string
	// Progress, when set, is where the count of verdicts so far is kept, and Capture the place of the capture that is judged now.
	Progress *Progress
}

// Progress tells how far Run has come. It may be read meanwhile.
type Progress struct {
	Capture, Verdicts atomic.Int64
}

// Judge is what judges: Signatures or Policies.
type Judge interface {
	replay(ctx context.Context, w work) (engine.OfflineReport, error)
}

// work is one capture to judge.
type work struct {
	binary  engine.Binary
	capture string // absolute
	dir     string // empty, and this work's own
	add     func(Verdict) error
	note    func(string) // a sentence about the capture that its reader should know
}

// Report is what became of one capture.
type Report struct {
	Capture string `json:"capture"`
	engine.OfflineReport
	// Notes are sentences about the capture that its reader should know.
	Notes []string `json:"notes,omitempty"`
}

// Result is what Run found. Close it.
type Result struct {
	Reports []Report
	sorted  *sorter
	dir     string
}

// CaptureError says that a capture could not be judged to its end. What was said until then is in the Result.
type CaptureError struct {
	Capture string
	Err     error
}

func (e *CaptureError) Error() string { return fmt.Sprintf("%s: %v", e.Capture, e.Err) }

// Unwrap returns the reason.
func (e *CaptureError) Unwrap() error { return e.Err }

// Run has captures judged. Its error is a *engine.LoadError when rules are refused; it has a *CaptureError for each capture that could
// not be read to its end, and then there is a Result all the same.
func Run(ctx context.Context, o Options, j Judge) (*Result, error) {
	dir, err := os.MkdirTemp(o.Dir, "meerkat-replay-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a directory for the engine: %w", err)
	}
	r := &Result{sorted: newSorter(dir), dir: dir}
	var errs []error
	for i, capture := range o.Captures {
		if o.Progress != nil {
			o.Progress.Capture.Store(int64(i))
		}
		err := r.judge(ctx, o, j, i)
		if refused := (*engine.LoadError)(nil); errors.As(err, &refused) || ctx.Err() != nil {
			_ = r.Close()
			return nil, err
		}
		if err != nil {
			errs = append(errs, &CaptureError{capture, err})
		}
	}
	return r, errors.Join(errs...)
}

// judge has one capture judged.
func (r *Result) judge(ctx context.Context, o Options, j Judge, index int) error {
	path, err := filepath.Abs(o.Captures[index])
	if err != nil {
		return err
	}
	if err := checkCapture(path); err != nil {
		return err
	}
	report := Report{Capture: o.Captures[index]}
	defer func() { r.Reports = append(r.Reports, report) }()
	if empty(path) {
		// The engine would wait a minute for a packet.
		report.Notes = []string{"it has no packet: nothing was judged, and no rule loaded"}
		return nil
	}
	dir := filepath.Join(r.dir, fmt.Sprint(index))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the Result's Close removes it with all else
	add := func(v Verdict) error {
		v.Index, v.Capture = index, o.Captures[index]
		if o.Progress != nil {
			o.Progress.Verdicts.Add(1)
		}
		return r.sorted.add(v)
	}
	note := func(text string) { report.Notes = append(report.Notes, text) }
	report.OfflineReport, err = j.replay(ctx, work{binary: o.Binary, capture: path, dir: dir, add: add, note: note})
	return err
}

// Verdicts are all of them, in order. They may be read several times, until Close.
func (r *Result) Verdicts() iter.Seq2[Verdict, error] { return r.sorted.all() }

// Close removes the files.
func (r *Result) Close() error { return os.RemoveAll(r.dir) }
