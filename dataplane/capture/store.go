package capture

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Connection is what is known of a connection that raised an alert. It stands beside its packets.
type Connection struct {
	// Time is the alert's, and Message the signature's.
	Time      time.Time `json:"time"`
	SID       uint32    `json:"sid"`
	Message   string    `json:"message"`
	Direction string    `json:"direction"`
	Protocol  string    `json:"protocol"`
	// Source and Destination are the ends, with the Pods' names where they are known.
	Source      End `json:"source"`
	Destination End `json:"destination"`
}

// store has the packets of one inspection in a directory: segments of pcap, each with the connections in it. The oldest go when there is
// more than maxBytes.
type store struct {
	dir      string
	maxBytes int64

	file, index *os.File
	out         *bufio.Writer
	name        string // of the segment
	size        int64  // of the segment, with its index
	older       []segment
	olderBytes  int64
	indexed     map[activeKey]bool // connections in the segment's index
}

type segment struct {
	name string
	size int64
}

const (
	pcapSuffix, indexSuffix = ".pcap", ".jsonl"
	// pcapMagic is that of files with nanoseconds, pcapEthernet the kind of link.
	pcapMagic, pcapEthernet       = 0xa1b23c4d, 1
	pcapHeader, pcapRecord        = 24, 16
	segmentsEach                  = 8
	smallestSegment         int64 = 64 << 10
)

// openStore goes on with what is in a directory.
func openStore(dir string, maxBytes int64) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("packets cannot be kept: %w", err)
	}
	s := &store{dir: dir, maxBytes: maxBytes}
	names, err := segments(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		g := segment{name: name}
		for _, suffix := range []string{pcapSuffix, indexSuffix} {
			if info, err := os.Stat(filepath.Join(dir, name+suffix)); err == nil {
				g.size += info.Size()
			}
		}
		s.older, s.olderBytes = append(s.older, g), s.olderBytes+g.size
	}
	return s, s.prune()
}

// segments gives the names of a directory's segments, the oldest first.
func segments(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), pcapSuffix); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// add keeps a packet. The VLAN tag that it gets tells the direction: a connection between two Pods of the inspection is seen twice.
func (s *store) add(p packet, key activeKey, c *Connection) error {
	if s.file == nil || s.size >= max(s.maxBytes/segmentsEach, smallestSegment) {
		if err := s.next(p.at); err != nil {
			return err
		}
	}
	if !s.indexed[key] {
		s.indexed[key] = true
		line, err := json.Marshal(c)
		if err != nil {
			return err
		}
		n, err := s.index.Write(append(line, '\n'))
		s.size += int64(n)
		if err != nil {
			return err
		}
	}
	tag := tagOf(c.Direction)
	var b [pcapRecord + 12 + tagSize]byte
	binary.LittleEndian.PutUint32(b[0:], uint32(p.at.Unix()))       //nolint:gosec // as the format has it
	binary.LittleEndian.PutUint32(b[4:], uint32(p.at.Nanosecond())) //nolint:gosec // as above
	size := uint32(len(p.frame) + tagSize)                          //nolint:gosec // at most maxFrame
	binary.LittleEndian.PutUint32(b[8:], size)
	binary.LittleEndian.PutUint32(b[12:], size)
	copy(b[pcapRecord:], p.frame[:12])
	binary.BigEndian.PutUint16(b[pcapRecord+12:], etherVLAN)
	binary.BigEndian.PutUint16(b[pcapRecord+14:], tag)
	s.size += int64(len(b) - 12 + len(p.frame))
	_, err := s.out.Write(b[:])
	if err == nil {
		_, err = s.out.Write(p.frame[12:])
	}
	if err != nil {
		s.drop()
		return err
	}
	return s.prune()
}

// tagOf is what stands for a direction in files, and directionOf its reverse.
func tagOf(direction string) uint16 {
	if direction == "Egress" {
		return 2
	}
	return 1
}

// next begins a segment.
func (s *store) next(now time.Time) error {
	if err := s.close(); err != nil {
		return err
	}
	s.name = fmt.Sprintf("%020d", now.UnixNano())
	if len(s.older) > 0 && s.name <= s.older[len(s.older)-1].name { // packets of a connection's beginning are older than the segment
		s.name = fmt.Sprintf("%020d", time.Now().UnixNano())
	}
	var err error
	if s.file, err = os.OpenFile(filepath.Join(s.dir, s.name+pcapSuffix), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	if s.index, err = os.OpenFile(filepath.Join(s.dir, s.name+indexSuffix), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err != nil {
		s.drop()
		return err
	}
	s.out, s.size, s.indexed = bufio.NewWriterSize(s.file, 64<<10), pcapHeader, map[activeKey]bool{}
	_, err = s.out.Write(fileHeader())
	return err
}

// fileHeader is that of a pcap file.
func fileHeader() []byte {
	var b [pcapHeader]byte
	binary.LittleEndian.PutUint32(b[0:], pcapMagic)
	binary.LittleEndian.PutUint16(b[4:], 2)
	binary.LittleEndian.PutUint16(b[6:], 4)
	binary.LittleEndian.PutUint32(b[16:], maxFrame+tagSize)
	binary.LittleEndian.PutUint32(b[20:], pcapEthernet)
	return b[:]
}

// prune removes the oldest segments until the rest fits.
func (s *store) prune() error {
	for s.olderBytes+s.size > s.maxBytes && len(s.older) > 0 {
		g := s.older[0]
		for _, suffix := range []string{pcapSuffix, indexSuffix} {
			if err := os.Remove(filepath.Join(s.dir, g.name+suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		s.older, s.olderBytes = s.older[1:], s.olderBytes-g.size
	}
	return nil
}

// flush makes what was kept readable.
func (s *store) flush() error {
	if s.out == nil {
		return nil
	}
	return s.out.Flush()
}

// close ends the segment.
func (s *store) close() error {
	if s.file == nil {
		return nil
	}
	err := errors.Join(s.out.Flush(), s.file.Close(), s.index.Close())
	s.older, s.olderBytes = append(s.older, segment{s.name, s.size}), s.olderBytes+s.size
	s.file, s.index, s.out, s.size = nil, nil, nil, 0
	return err
}

// drop gives a segment up that cannot be written: what it has stays readable up to there.
func (s *store) drop() {
	if s.file != nil {
		_ = s.file.Close()
	}
	if s.index != nil {
		_ = s.index.Close()
	}
	s.older, s.olderBytes = append(s.older, segment{s.name, s.size}), s.olderBytes+s.size
	s.file, s.index, s.out, s.size = nil, nil, nil, 0
}
