package outputs

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/outgoing"
)

const (
	// syslogTimeout is how long making a connection, and each write, may take.
	syslogTimeout = 5 * time.Second
	// maxDatagram is the longest message over UDP, in bytes: what an IPv4 packet holds.
	maxDatagram = 65507
	// syslogSeverity is that of all messages: notice.
	syslogSeverity = 5
	// local0 is the default facility.
	local0 = 16
)

// syslogSink sends messages to a syslog server.
type syslogSink struct {
	config Syslog
	prefix string // the header up to the time
	suffix string // the header after it

	mu     sync.Mutex
	closed bool
	conn   net.Conn
	stream *outgoing.Conn // below conn, unless that is UDP
	gone   chan struct{}  // closed when the server has ended the connection

	// unsure are messages that were written, and that the server's machine has not acknowledged yet, oldest first.
	unsure []unsureMessage
}

// unsureMessage is one of those.
type unsureMessage struct {
	text []byte
	end  int64 // in the bytes of the connection
}

// maxUnsure bounds what is kept in case that a connection breaks.
const maxUnsure = 4096

func newSyslog(c Syslog) (*syslogSink, error) {
	if c.Host == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		c.Host = name
	}
	facility := local0
	if c.Facility != nil {
		facility = *c.Facility
	}
	return &syslogSink{
		config: c, prefix: fmt.Sprintf("<%d>1 ", facility*8+syslogSeverity),
		suffix: fmt.Sprintf(" %s %s %d - - ", c.Host, cmp.Or(c.AppName, "-"), os.Getpid()),
	}, nil
}

func (s *syslogSink) batch() (int, int, time.Duration) { return 1, 1, 0 }

// message is an event as RFC 5424 has it; over a connection, with the count of its octets (RFC 6587).
func (s *syslogSink) message(event []byte, at time.Time) []byte {
	text := make([]byte, 0, len(event)+128)
	text = append(text, s.prefix...)
	text = at.UTC().AppendFormat(text, "2006-01-02T15:04:05.000000Z07:00")
	text = append(append(text, s.suffix...), event...)
	if s.config.Transport == UDP {
		return text
	}
	return append(append(strconv.AppendInt(nil, int64(len(text)), 10), ' '), text...)
}

// check makes the connection. Over UDP it finds out that the host has an address, and no more.
func (s *syslogSink) check(ctx context.Context) error { return s.connect(ctx) }

func (s *syslogSink) deliver(ctx context.Context, events [][]byte) (int, error) {
	if err := s.connect(ctx); err != nil {
		return 0, err
	}
	text := s.message(events[0], time.Now())
	if s.config.Transport == UDP && len(text) > maxDatagram {
		return 0, &refusal{TooLarge, 1, fmt.Errorf("an event of %d bytes fits into no datagram", len(events[0]))}
	}
	if err := s.write(text); err != nil {
		return 0, err
	}
	return 1, nil
}

// write sends a message, and what a connection that broke may not have brought.
func (s *syslogSink) write(text []byte) error {
	s.mu.Lock()
	conn, stream := s.conn, s.stream
	s.mu.Unlock()
	if conn == nil {
		return net.ErrClosed
	}
	_ = conn.SetWriteDeadline(time.Now().Add(syslogTimeout))
	_, err := conn.Write(text)
	if errors.Is(err, unix.EMSGSIZE) {
		return &refusal{TooLarge, 1, err}
	}
	if err != nil {
		s.drop()
		return fmt.Errorf("cannot send to %s: %w", s.config.Address, err)
	}
	if stream == nil {
		return nil
	}
	s.acknowledge(stream)
	if len(s.unsure) == maxUnsure {
		s.unsure = s.unsure[1:]
	}
	s.unsure = append(s.unsure, unsureMessage{text, stream.Written()})
	return nil
}

// acknowledge forgets what has arrived.
func (s *syslogSink) acknowledge(stream *outgoing.Conn) {
	arrived, ok := stream.Acknowledged()
	if !ok {
		return
	}
	for len(s.unsure) > 0 && s.unsure[0].end <= arrived {
		s.unsure = s.unsure[1:]
	}
}

// connect makes a connection unless there is one, and sends again what the last one may not have brought.
func (s *syslogSink) connect(ctx context.Context) error {
	s.mu.Lock()
	conn, gone := s.conn, s.gone
	s.mu.Unlock()
	if conn != nil {
		select {
		case <-gone: // a server says nothing: only its end can be read
			s.drop()
		default:
			return nil
		}
	}
	return s.dial(ctx)
}

// dial makes a connection.
func (s *syslogSink) dial(ctx context.Context) error {
	dialer := &net.Dialer{Timeout: syslogTimeout}
	ctx, cancel := context.WithTimeout(ctx, syslogTimeout)
	defer cancel()
	network := "tcp"
	if s.config.Transport == UDP {
		network = "udp"
	}
	raw, err := dialer.DialContext(ctx, network, s.config.Address)
	if err != nil {
		return outgoing.CannotReach(s.config.Address, err)
	}
	conn := raw
	var stream *outgoing.Conn
	if tcp, ok := raw.(*net.TCPConn); ok {
		stream = &outgoing.Conn{TCPConn: tcp}
		conn = stream
	}
	if s.config.Transport == TLS {
		c := outgoing.TLSConfig(s.config.CABundle)
		c.ServerName, _, _ = net.SplitHostPort(s.config.Address)
		secured := tls.Client(stream, c)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return outgoing.CannotReach(s.config.Address, err)
		}
		conn = secured
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = conn.Close()
		return net.ErrClosed
	}
	s.conn, s.stream, s.gone = conn, stream, make(chan struct{})
	s.mu.Unlock()
	if stream != nil {
		go await(conn, s.gone)
	}
	again := s.unsure
	s.unsure = nil
	for i, m := range again {
		if err := s.write(m.text); err != nil {
			s.unsure = append(s.unsure, again[i:]...)
			return err
		}
	}
	return nil
}

// await reads until the server ends the connection.
func await(conn net.Conn, gone chan struct{}) {
	buf := make([]byte, 512)
	for {
		if _, err := conn.Read(buf); err != nil {
			close(gone)
			return
		}
	}
}

// drop gives a broken connection up.
func (s *syslogSink) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.Close()
	}
	s.conn, s.stream = nil, nil
}

func (s *syslogSink) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.drop()
	return nil
}
