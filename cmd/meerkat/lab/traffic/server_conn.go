package traffic

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"

	"golang.org/x/net/http2"
)

// recordedConn notes every byte that is read.
type recordedConn struct {
	net.Conn
	rec    *Recorder
	record *Record
}

func (c *recordedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.rec.received(c.record, b[:n])
	}
	return n, err
}

// stream is one connection, or what is inside its TLS, while it is served.
type stream struct {
	server *Server
	record *Record
	conn   net.Conn
	in     *bufio.Reader
	tls    bool
}

func (s *Server) serveConn(conn net.Conn, p Port) {
	record := s.rec.open(s.name, "tcp", addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr()))
	recorded := &recordedConn{Conn: conn, rec: s.rec, record: record}
	defer s.rec.closed(record)
	if p.dns() {
		s.serveDNSStream(recorded, record)
		return
	}
	st := &stream{server: s, record: record, conn: recorded, in: bufio.NewReader(recorded)}
	st.serve()
}

// serve tells by the first bytes what the client speaks.
func (st *stream) serve() {
	switch st.sniff() {
	case ProtocolTLS:
		st.serveTLS()
	case ProtocolHTTP2:
		st.spoke(ProtocolHTTP2)
		st.serveHTTP2(nil)
	case ProtocolSSH:
		st.spoke(ProtocolSSH)
		if _, err := io.WriteString(st.conn, "SSH-2.0-meerkat-lab\r\n"); err == nil {
			_, _ = io.Copy(st.conn, st.in)
		}
	default:
		st.serveHTTP1()
	}
}

// spoke notes the outermost protocol.
func (st *stream) spoke(protocol string) {
	if st.tls {
		return
	}
	st.update(func(r *Record) { r.Protocol = protocol })
}

func (st *stream) update(change func(*Record)) { st.server.rec.update(st.record, change) }

// sniff waits for as many bytes as it takes to tell, and leaves them unread.
func (st *stream) sniff() string {
	for n := 1; ; n++ {
		b, err := st.in.Peek(n)
		if len(b) < n || err != nil {
			st.spoke(ProtocolUnknown)
			return ProtocolUnknown
		}
		head := string(b)
		switch {
		case !st.tls && strings.HasPrefix(head, "\x16\x03"):
			return ProtocolTLS
		case head == "SSH-":
			return ProtocolSSH
		case head == http2.ClientPreface:
			return ProtocolHTTP2
		case !st.tls && head == "\x16", begins("SSH-", head), begins(http2.ClientPreface, head):
			continue
		}
		st.spoke(ProtocolUnknown)
		return ProtocolUnknown
	}
}

// begins tells whether head may yet become whole.
func begins(whole, head string) bool { return strings.HasPrefix(whole, head) }

// serveTLS answers a handshake with a certificate of our own making, and serves what is inside.
func (st *stream) serveTLS() {
	st.spoke(ProtocolTLS)
	config := &tls.Config{
		MinVersion: tls.VersionTLS10,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			st.update(func(r *Record) { r.ClientHello, r.ServerName = true, hello.ServerName })
			return st.server.tls.certificate(hello.ServerName)
		},
	}
	conn := tls.Server(&bufferedConn{Conn: st.conn, in: st.in}, config)
	if err := conn.Handshake(); err != nil {
		return
	}
	inner := &stream{server: st.server, record: st.record, conn: conn, in: bufio.NewReader(conn), tls: true}
	inner.serve()
}

// bufferedConn reads first what sniffing left in the buffer.
type bufferedConn struct {
	net.Conn
	in *bufio.Reader
}

func (c *bufferedConn) Read(b []byte) (int, error) { return c.in.Read(b) }
