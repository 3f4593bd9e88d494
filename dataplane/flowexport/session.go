package flowexport

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/outgoing"
)

const (
	// dialTimeout bounds making a connection, and writeTimeout each write.
	dialTimeout, writeTimeout = 5 * time.Second, 10 * time.Second
)

// session is a transport session (RFC 7011, section 2): templates and sequence numbers hold within one.
type session struct {
	spec   *Collector
	domain uint32
	conn   net.Conn
	stream *outgoing.Conn // below conn, unless that is UDP
	gone   chan struct{}  // closed when the collector has ended the connection; nil over UDP

	sequence  uint32
	templates map[*template]time.Time // when each was sent last
	// acknowledged counts messages that arrived.
	acknowledged int
	// most bounds messages, in bytes.
	most int
}

// dial makes a session.
func dial(ctx context.Context, spec *Collector, domain uint32) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	s := &session{spec: spec, domain: domain, templates: map[*template]time.Time{}, most: spec.MessageBytes}
	network := "tcp"
	if spec.Transport == UDP {
		network = "udp"
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, network, spec.Address)
	if err != nil {
		return nil, s.explain(err)
	}
	s.conn = raw
	if udp, ok := raw.(*net.UDPConn); ok {
		s.most = min(s.most, pathRoom(udp))
		return s, nil
	}
	tcp, ok := raw.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("a connection to %s of a kind that is not known: %T", spec.Address, raw)
	}
	s.stream = &outgoing.Conn{TCPConn: tcp}
	s.conn, s.gone = s.stream, make(chan struct{})
	if spec.Transport == TLS {
		if err := s.secure(ctx); err != nil {
			_ = raw.Close()
			return nil, s.explain(err)
		}
	}
	go s.await()
	return s, nil
}

func (s *session) secure(ctx context.Context) error {
	config := outgoing.TLSConfig(s.spec.CABundle)
	host, _, _ := net.SplitHostPort(s.spec.Address)
	config.ServerName = cmp.Or(s.spec.ServerName, host)
	if len(s.spec.ClientCertificate) > 0 {
		pair, err := tls.X509KeyPair(s.spec.ClientCertificate, s.spec.ClientKey)
		if err != nil {
			return fmt.Errorf("the client's certificate or key cannot be used: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	secured := tls.Client(s.stream, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return err
	}
	s.conn = secured
	return nil
}

// explain says what to do about an error.
func (s *session) explain(err error) error {
	return outgoing.CannotReach(s.spec.Address, err)
}

// pathRoom gives how many bytes a datagram to the other end can have without fragments, as far as the kernel knows. Should it learn of less,
// it refuses to send, and the next session asks again.
func pathRoom(conn *net.UDPConn) int {
	level, option, headers := unix.IPPROTO_IP, unix.IP_MTU, 20+8
	if remote, ok := conn.RemoteAddr().(*net.UDPAddr); ok && remote.IP.To4() == nil {
		level, option, headers = unix.IPPROTO_IPV6, unix.IPV6_MTU, 40+8
	}
	mtu := 0
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { mtu, _ = unix.GetsockoptInt(int(fd), level, option) })
	}
	if mtu <= headers {
		return maxMessageSize
	}
	return mtu - headers
}

// await reads until the collector ends the connection: it has nothing to say.
func (s *session) await() {
	buffer := make([]byte, 512)
	for {
		if _, err := s.conn.Read(buffer); err != nil {
			close(s.gone)
			return
		}
	}
}

func (s *session) close() { _ = s.conn.Close() }

// needs tells whether a template must be sent first.
func (s *session) needs(t *template) bool {
	_, known := s.templates[t]
	return !known
}

func (s *session) known(t *template, at time.Time) { s.templates[t] = at }

// refresh adds the templates that are to be sent again: over UDP all that are old (RFC 7011, section 8.4), over connections none.
func (s *session) refresh(m *message, now time.Time) {
	if s.spec.Transport != UDP {
		return
	}
	for t, at := range s.templates {
		if now.Sub(at) >= s.spec.TemplateRefresh && m.room(templateSet, len(t.bytes)) {
			m.add(templateSet, t.bytes)
			s.templates[t] = now
		}
	}
}

// send sends a message. Over UDP, the error may be about the one before.
func (s *session) send(m *message) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := s.conn.Write(m.finish(time.Now(), s.sequence, s.domain)); err != nil {
		return err
	}
	s.sequence += uint32(m.records)
	return nil
}

// written is how many bytes have been written, and arrived how many of them the collector's machine has acknowledged.
func (s *session) written() int64 {
	if s.stream == nil {
		return 0
	}
	return s.stream.Written()
}

func (s *session) arrived() int64 {
	if s.stream == nil {
		return 0
	}
	n, ok := s.stream.Acknowledged()
	if !ok {
		return 0
	}
	return n
}

// refused gives the error that is waiting at a socket of UDP, which a refused datagram has left there.
func (s *session) refused() error {
	conn, ok := s.conn.(*net.UDPConn)
	if !ok {
		return nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	number := 0
	var failed error
	if err := raw.Control(func(fd uintptr) { number, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR) }); err != nil {
		return err
	}
	if failed == nil && number != 0 {
		failed = unix.Errno(number)
	}
	return os.NewSyscallError("send", failed)
}
