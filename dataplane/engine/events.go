package engine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

// maxEventLine is the longest event that is read. An engine's event with a long URL has some 10 kB.
const maxEventLine = 256 << 10

// maxEventConns is how many connections are read at a time. An engine has one; each takes a buffer of maxEventLine.
const maxEventConns = 8

// eventServer listens where the engine sends its events.
type eventServer struct {
	listener net.Listener
	events   chan Event
	record   func(line []byte) // nil: lines become events
	recordMu sync.Mutex
	conns    sync.WaitGroup
	mu       sync.Mutex
	open     map[net.Conn]struct{}
	closed   bool
	gate     gateFilter
	stream   streamErrorFilter

	delivered, lost, bad atomic.Uint64
}

// listenEvents makes the socket, replacing one that a dead process left. It is the only sender on events.
func listenEvents(path string, events chan Event, record func(line []byte)) (*eventServer, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot remove the old event socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for events: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil { // an engine of another user has the group
		_ = listener.Close()
		return nil, fmt.Errorf("cannot open the event socket to the engine: %w", err)
	}
	s := &eventServer{listener: listener, events: events, record: record, open: map[net.Conn]struct{}{}}
	s.conns.Add(1)
	go s.accept()
	return s, nil
}

func (s *eventServer) accept() {
	defer s.conns.Done()
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed || len(s.open) >= maxEventConns {
			over := s.closed
			s.mu.Unlock()
			_ = conn.Close()
			if over {
				return
			}
			continue
		}
		s.open[conn] = struct{}{}
		s.conns.Add(1)
		s.mu.Unlock()
		go s.serve(conn)
	}
}

func (s *eventServer) serve(conn net.Conn) {
	defer s.conns.Done()
	s.read(conn)
	_ = conn.Close()
	s.mu.Lock()
	delete(s.open, conn)
	s.mu.Unlock()
}

// read decodes a line at a time until the connection ends. Lines that make no sense are counted and skipped: the engine writes
// what strangers sent, and cuts a line when its socket is full.
func (s *eventServer) read(r io.Reader) {
	lines := bufio.NewReaderSize(r, maxEventLine)
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			s.bad.Add(1)
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = lines.ReadSlice('\n')
			}
		case len(line) > 0:
			s.handle(line)
		}
		if err != nil {
			return
		}
	}
}

func (s *eventServer) handle(line []byte) {
	if s.record != nil {
		s.recordMu.Lock()
		s.record(line)
		s.recordMu.Unlock()
		s.delivered.Add(1)
		return
	}
	event, err := DecodeEvent(line)
	if errors.Is(err, ErrNotReported) {
		return
	}
	if err != nil {
		s.bad.Add(1)
		return
	}
	if s.gate.holds(event) || s.stream.holds(event) {
		return
	}
	select {
	case s.events <- event:
		s.delivered.Add(1)
	default:
		s.lost.Add(1)
	}
}

// close ends all connections; nothing is sent on the channel afterwards.
func (s *eventServer) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for conn := range s.open {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.conns.Wait()
}
