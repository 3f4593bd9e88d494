package outputs

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
)

// newSink makes the sink of an output whose configuration was checked.
func newSink(c Config, opts Options) (sink, error) {
	switch {
	case c.File != nil:
		return &lineSink{out: &lumberjack.Logger{
			Filename: c.File.Path, MaxSize: c.File.MaxSize, MaxBackups: c.File.MaxFiles, Compress: c.File.Compress,
		}, path: c.File.Path, most: c.File.MaxSize << 20}, nil
	case c.Syslog != nil:
		return newSyslog(*c.Syslog)
	case c.HTTP != nil:
		return newHTTP(*c.HTTP, opts.Authorization), nil
	}
	return &lineSink{out: nopCloser{opts.Stdout}}, nil
}

// nopCloser leaves the standard output open.
type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// lineSink writes a line for each event.
type lineSink struct {
	out  io.WriteCloser
	path string // of the file; "" for the standard output
	most int    // bytes of a line; 0: any
	// broken says that the last write ended amid a line.
	broken bool
	line   []byte
}

func (s *lineSink) batch() (int, int, time.Duration) { return 1, 1, 0 }

// check opens the file.
func (s *lineSink) check(context.Context) error {
	if s.path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o750); err != nil {
		return fmt.Errorf("the file cannot be written: %w", err)
	}
	file, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("the file cannot be written: %w", err)
	}
	return file.Close()
}

func (s *lineSink) deliver(_ context.Context, events [][]byte) (int, error) {
	s.line = s.line[:0]
	if s.broken { // what a full disk took of an event stays a line of its own, which is no event
		s.line = append(s.line, '\n')
	}
	s.line = append(append(s.line, events[0]...), '\n')
	if s.most > 0 && len(s.line) > s.most {
		return 0, &refusal{TooLarge, 1, fmt.Errorf("an event of %d bytes is larger than the file may be", len(events[0]))}
	}
	n, err := s.out.Write(s.line)
	if n > 0 {
		s.broken = n < len(s.line) && s.line[n-1] != '\n'
	}
	if err != nil {
		return 0, fmt.Errorf("cannot write an event; make room, or see to the disk: %w", err)
	}
	return 1, nil
}

func (s *lineSink) close() error { return s.out.Close() }
