package capture

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Query says which packets are read.
type Query struct {
	// Since leaves out packets before it, unless it is zero.
	Since time.Time
	// Pods leaves out connections of which no end is one of these ("namespace/name"), unless it is empty.
	Pods []string
}

// Summary is what was read.
type Summary struct {
	Packets     int
	Bytes       int64
	Connections int
}

// Read writes the packets that are kept in the directory of an inspection, as a pcap file in order of time. A packet that was seen at both
// its ends is there once. Where nothing is kept, the file is empty but for its header.
func Read(ctx context.Context, dir string, q Query, w io.Writer) (Summary, error) {
	names, err := segments(dir)
	if err != nil {
		return Summary{}, fmt.Errorf("packets cannot be read: %w", err)
	}
	var sources []*source
	seen := map[flow]bool{}
	for _, name := range names {
		flows, err := readIndex(filepath.Join(dir, name+indexSuffix), q.Pods, seen)
		if err != nil {
			return Summary{}, err
		}
		s := &source{path: filepath.Join(dir, name+pcapSuffix), accept: func(at time.Time, frame []byte) bool {
			if at.Before(q.Since) {
				return false
			}
			if len(q.Pods) == 0 {
				return true
			}
			bare, _ := untag(frame)
			f, ok := parse(bare)
			return ok && (flows[f] || f.later && flows[f.addresses()])
		}}
		if err := s.bounds(ctx); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue // the keeper has just removed it
			}
			return Summary{}, err
		}
		if s.count > 0 {
			sources = append(sources, s)
		}
	}
	sum, err := merge(ctx, sources, w, true)
	sum.Connections = len(seen)
	return sum, err
}

// Merge merges files that Read has written, of several nodes, as Read does.
func Merge(ctx context.Context, files []string, w io.Writer) (Summary, error) {
	var sources []*source
	for i, path := range files {
		s := &source{path: path, number: uint64(i), accept: func(time.Time, []byte) bool { return true }} //nolint:gosec // an index
		if err := s.bounds(ctx); err != nil {
			return Summary{}, err
		}
		if s.count > 0 {
			sources = append(sources, s)
		}
	}
	return merge(ctx, sources, w, false)
}

// readIndex gives the flows of connections of which an end is one of the Pods, with and without their ports, and adds them to seen.
func readIndex(path string, pods []string, seen map[flow]bool) (map[flow]bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	flows := map[flow]bool{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c Connection
		if json.Unmarshal(lines.Bytes(), &c) != nil {
			continue // the last line, while it is written
		}
		if len(pods) > 0 && !slices.Contains(pods, c.Source.Name) && !slices.Contains(pods, c.Destination.Name) {
			continue
		}
		number, _ := protocolNumber(c.Protocol)
		f := flowOf(c.Source.Address, c.Destination.Address, number)
		flows[f], flows[f.addresses()], seen[f] = true, true, true
	}
	return flows, lines.Err()
}

// source is a pcap file of which packets are read in order of time.
type source struct {
	path   string
	number uint64
	accept func(at time.Time, frame []byte) bool

	first time.Time // of its packets
	count int

	file   *os.File
	places []place // sorted, those that are still to come; nil until it is opened
	buf    []byte
}

type place struct {
	at     int64
	offset int64
	size   uint32
}

// each goes through the file, up to what was being written when it was read.
func (s *source) each(ctx context.Context, file *os.File, on func(at time.Time, offset int64, frame []byte)) error {
	in := bufio.NewReaderSize(file, 256<<10)
	var header [pcapHeader]byte
	if _, err := io.ReadFull(in, header[:]); err != nil {
		return nil // nothing is written yet
	}
	if binary.LittleEndian.Uint32(header[:]) != pcapMagic {
		return fmt.Errorf("%s is no file of packets", s.path)
	}
	buf := make([]byte, maxFrame+etherHeader+tagSize)
	offset := int64(pcapHeader)
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		var record [pcapRecord]byte
		if _, err := io.ReadFull(in, record[:]); err != nil {
			return nil
		}
		size := binary.LittleEndian.Uint32(record[8:])
		if int(size) > len(buf) {
			return fmt.Errorf("%s is damaged at byte %d", s.path, offset)
		}
		if _, err := io.ReadFull(in, buf[:size]); err != nil {
			return nil
		}
		at := time.Unix(int64(binary.LittleEndian.Uint32(record[0:])), int64(binary.LittleEndian.Uint32(record[4:])))
		on(at, offset+pcapRecord, buf[:size])
		offset += pcapRecord + int64(size)
	}
}

// bounds finds the first packet's time, and how many there are.
func (s *source) bounds(ctx context.Context) error {
	file, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read
	return s.each(ctx, file, func(at time.Time, _ int64, frame []byte) {
		if !s.accept(at, frame) {
			return
		}
		if s.count++; s.first.IsZero() || at.Before(s.first) {
			s.first = at
		}
	})
}

// open reads where the packets are.
func (s *source) open(ctx context.Context) (err error) {
	if s.file, err = os.Open(s.path); err != nil {
		return err
	}
	s.places = make([]place, 0, s.count)
	err = s.each(ctx, s.file, func(at time.Time, offset int64, frame []byte) {
		if s.accept(at, frame) {
			s.places = append(s.places, place{at.UnixNano(), offset, uint32(len(frame))}) //nolint:gosec // at most maxFrame
		}
	})
	slices.SortStableFunc(s.places, func(a, b place) int { return int(min(1, max(-1, a.at-b.at))) })
	return err
}

func (s *source) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
	s.file, s.places = nil, nil
}

// next gives the next packet's frame, and goes on to the one after it.
func (s *source) next() ([]byte, error) {
	p := s.places[0]
	s.places = s.places[1:]
	s.buf = slices.Grow(s.buf[:0], int(p.size))[:p.size]
	_, err := s.file.ReadAt(s.buf, p.offset)
	return s.buf, err
}

// merge writes the packets of all sources in order of time. A source is opened only when its first packet is due, so that of files that
// follow each other not all are in memory. With tagged, frames have the tag of their direction, which is taken out.
func merge(ctx context.Context, sources []*source, w io.Writer, tagged bool) (Summary, error) {
	slices.SortStableFunc(sources, func(a, b *source) int { return a.first.Compare(b.first) })
	defer func() {
		for _, s := range sources {
			s.close()
		}
	}()
	var sum Summary
	out := bufio.NewWriterSize(w, 256<<10)
	if _, err := out.Write(fileHeader()); err != nil {
		return sum, err
	}
	twice := newTwice()
	var open []*source
	for n := 0; len(open) > 0 || len(sources) > 0; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return sum, ctx.Err()
		}
		var first *source
		for _, s := range open {
			if first == nil || s.places[0].at < first.places[0].at {
				first = s
			}
		}
		if len(sources) > 0 && (first == nil || sources[0].first.UnixNano() <= first.places[0].at) {
			s := sources[0]
			if err := s.open(ctx); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return sum, err
			}
			if sources = sources[1:]; len(s.places) > 0 {
				open = append(open, s)
			} else {
				s.close()
			}
			continue
		}
		at := first.places[0].at
		frame, err := first.next()
		if err != nil {
			return sum, err
		}
		from := first.number
		if len(first.places) == 0 {
			first.close()
			open = slices.DeleteFunc(open, func(s *source) bool { return s == first })
		}
		if tagged {
			var tag uint16
			frame, tag = untag(frame)
			from = uint64(tag)
		}
		if twice.again(at, from, frame) {
			continue
		}
		if err := write(out, at, frame); err != nil {
			return sum, err
		}
		sum.Packets, sum.Bytes = sum.Packets+1, sum.Bytes+int64(len(frame))
	}
	return sum, out.Flush()
}

func write(out io.Writer, at int64, frame []byte) error {
	var b [pcapRecord]byte
	t, size := time.Unix(0, at), uint32(len(frame))              //nolint:gosec // at most maxFrame
	binary.LittleEndian.PutUint32(b[0:], uint32(t.Unix()))       //nolint:gosec // as the format has it
	binary.LittleEndian.PutUint32(b[4:], uint32(t.Nanosecond())) //nolint:gosec // as above
	binary.LittleEndian.PutUint32(b[8:], size)
	binary.LittleEndian.PutUint32(b[12:], size)
	if _, err := out.Write(b[:]); err != nil {
		return err
	}
	_, err := out.Write(frame)
	return err
}
